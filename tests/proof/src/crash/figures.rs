//! How much was tried.

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Operations of workloads at which the power was lost.
    pub operations: u64,
    /// States of the disk that were opened and compared.
    pub states: u64,
    /// Of them, those that a second crash left, in a recovery.
    pub recoveries: u64,
}

impl Figures {
    /// Takes others in.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.states += other.states;
        self.recoveries += other.recoveries;
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { operations, states, recoveries } = self;
        write!(
            f,
            "{operations} operations, {states} crash states, {recoveries} of them crashes during recovery"
        )
    }
}
