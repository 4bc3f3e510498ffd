//! Tests of whole tables.

mod damage;
mod example;
mod round_trip;
