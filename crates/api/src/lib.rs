//! kagami-api
