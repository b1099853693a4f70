//! Names under which parts of the work are timed, for whoever listens to `tracing` (`imagent train --profile` does). Without a
//! listener a name costs nothing that could be measured.

/// Names what follows in the scope.
macro_rules! timed {
    ($name:literal) => {
        let _span = tracing::trace_span!($name).entered();
    };
}
