//! Small numbers for names, so that inner loops compare numbers.

use rustc_hash::FxHashMap;

use super::TopologyIx;
use crate::api::Text;

#[derive(Debug, Default)]
struct Names {
    numbers: FxHashMap<Text, usize>,
    names: Vec<Text>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name = Text::from(name);
        self.names.push(name.clone());
        self.numbers.insert(name, self.names.len() - 1);
        self.names.len() - 1
    }
}

/// Numbers for names that inner loops compare.
#[derive(Debug, Default)]
pub struct Interned {
    scalars: Names,
    topologies: Names,
    images: Names,
    gpu_models: Names,
}

impl Interned {
    /// The number of a scalar resource.
    pub fn scalar(&mut self, name: &str) -> usize {
        self.scalars.number(name)
    }

    /// The name of a scalar resource.
    pub fn scalar_name(&self, number: usize) -> &Text {
        &self.scalars.names[number]
    }

    /// The number of a scalar resource that was seen before.
    pub fn known_scalar(&self, name: &str) -> Option<usize> {
        self.scalars.numbers.get(name).copied()
    }

    /// The topology keys by number.
    pub(super) fn topologies(&self) -> &[Text] {
        &self.topologies.names
    }

    /// The number of a topology key.
    pub fn topology(&mut self, key: &str) -> TopologyIx {
        self.topologies.number(key)
    }

    /// The number of a GPU model.
    pub fn gpu_model(&mut self, name: &str) -> usize {
        self.gpu_models.number(name)
    }

    /// The number of an image name.
    pub fn image(&mut self, name: &str) -> usize {
        self.images.number(name)
    }
}
