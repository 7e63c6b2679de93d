//! Harvesting.
