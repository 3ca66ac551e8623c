//! Tests of the storage as a whole, over the simulated disk and the real one.
//!
//! [`world`] owns the model: what topics staged, and what must therefore be on disk. The others
//! make something happen and compare.

mod ahead;
mod behaviour;
mod damage;
mod failures;
mod journal;
mod power_cuts;
mod rot;
mod trimming;
mod verify;
mod world;
