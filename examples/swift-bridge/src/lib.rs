//! The core of an app, in Rust over the `mlxterp` crate, with an API of the app's own for Swift: what the model would say
//! after each layer, and what it would say if its thoughts were pushed from one thing towards another.
//!
//! `swift-bridge` writes both halves of the way across. A `Result` becomes a function that throws; a panic would end the
//! process, so everything that can fail is a `Result`. Arguments are `String`s because what swift-bridge writes for `&str` in
//! a function that throws does not compile (0.1.59).

mod lens;

use lens::{Comparison, Direction, Failure, Guess, Lens};

#[swift_bridge::bridge]
mod ffi {
    extern "Rust" {
        type Lens;

        #[swift_bridge(associated_to = Lens)]
        fn open(path: String) -> Result<Lens, Failure>;

        #[swift_bridge(swift_name = "layerCount")]
        fn layer_count(&self) -> usize;

        #[swift_bridge(swift_name = "byLayer")]
        fn by_layer(&self, prompt: String) -> Result<Vec<Guess>, Failure>;

        fn direction(&self, away: String, toward: String, layer: usize, position: i64) -> Result<Direction, Failure>;

        fn compare(
            &self,
            prompt: String,
            direction: &Direction,
            strength: f64,
            count: usize,
        ) -> Result<Comparison, Failure>;
    }

    extern "Rust" {
        type Direction;

        fn site(&self) -> String;
    }

    extern "Rust" {
        type Comparison;

        fn untouched(&self) -> Vec<Guess>;
        fn steered(&self) -> Vec<Guess>;
        fn change(&self) -> f64;
    }

    extern "Rust" {
        type Guess;

        fn text(&self) -> String;
        fn probability(&self) -> f32;
    }

    extern "Rust" {
        type Failure;

        fn kind(&self) -> String;
        fn message(&self) -> String;
    }
}
