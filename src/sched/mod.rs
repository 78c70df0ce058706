//! The scheduler: queue, framework, plugins, binding.
