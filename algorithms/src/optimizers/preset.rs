//! An optimiser that is [`Grpo`](super::Grpo) with defaults of its own.

/// Declares a newtype of [`Grpo`](super::Grpo): what it defaults to, and the traits, which go through to the inner one.
macro_rules! preset {
    ($(#[doc = $doc:literal])* #[typetag::serde(name = $tag:literal)] $name:ident, $defaults:expr) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub $crate::Grpo);

        impl Default for $name {
            fn default() -> Self {
                Self($defaults)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::Grpo::read(Self::default().0, deserializer).map(Self)
            }
        }

        #[typetag::serde(name = $tag)]
        impl imagent_core::PolicyOptimizer for $name {
            fn advantages_of(&self, rewards: &[f32], in_baseline: &[bool]) -> Vec<f32> {
                self.0.advantages_of(rewards, in_baseline)
            }

            fn batch_advantages(&self, outcomes: &imagent_core::Outcomes) -> Option<imagent_core::Advantages> {
                self.0.batch_advantages(outcomes)
            }

            fn loss(&self, tokens: &imagent_core::TokenBatch) -> imagent_core::TokenLoss {
                self.0.loss(tokens)
            }

            fn needs_reference(&self) -> bool {
                self.0.needs_reference()
            }

            fn needs_behavior(&self) -> bool {
                self.0.needs_behavior()
            }
        }
    };
}
pub(crate) use preset;
