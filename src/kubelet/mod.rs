//! Kubelets: pod workers, probes, images, status, leases, and the runtime boundary.
