//! Sets of hash slots.
