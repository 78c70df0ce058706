//! Load: arrivals, clients, and what a request costs inside a container.
