//! The words of the engine, read: `INFO`, `CLUSTER INFO`, `CLUSTER NODES`.
