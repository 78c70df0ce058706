//! Containers that crash, and how long they are kept waiting.
