//! Who answers runtime requests: latency models, or real Linux processes.
