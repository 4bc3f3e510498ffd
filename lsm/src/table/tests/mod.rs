//! Tests of whole tables.

mod caches;
mod damage;
mod example;
mod round_trip;
