//! The network between nodes: topology, partitions, service proxies, connections.
