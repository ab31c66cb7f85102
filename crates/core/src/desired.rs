//! What a validated group asks for.
