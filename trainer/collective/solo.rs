//! One rank alone: what it has is the sum.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::collective::{Abort, Collective, CollectiveError};

pub struct Solo {
    aborted: Arc<OnceLock<String>>,
}

impl Solo {
    pub fn create() -> (Self, Abort) {
        let aborted = Arc::new(OnceLock::new());
        let told = aborted.clone();
        // The first reason stays.
        let abort = Abort::new(move |reason| drop(told.set(reason.to_owned())));
        (Self { aborted }, abort)
    }

    fn check(&self) -> Result<(), CollectiveError> {
        match self.aborted.get() {
            Some(reason) => Err(CollectiveError::Aborted(reason.clone())),
            None => Ok(()),
        }
    }
}

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, _: &mut [f32]) -> Result<(), CollectiveError> {
        self.check()
    }

    fn reduce_scatter(&mut self, values: &mut [f32]) -> Result<Range<usize>, CollectiveError> {
        self.check()?;
        Ok(0..values.len())
    }

    fn all_gather(&mut self, _: &mut [f32]) -> Result<(), CollectiveError> {
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_the_sum_is_what_there_is_until_it_is_aborted() {
        let (mut solo, abort) = Solo::create();
        let mut values = [1.5, -0.0];
        assert_eq!(solo.all_reduce(&mut values), Ok(()));
        assert_eq!(solo.reduce_scatter(&mut values), Ok(0..2));
        assert_eq!(solo.all_gather(&mut values), Ok(()));
        assert_eq!(values.map(f32::to_bits), [1.5_f32, -0.0].map(f32::to_bits));
        abort.abort("first");
        abort.abort("second");
        let aborted = CollectiveError::Aborted("first".to_owned());
        assert_eq!(solo.all_reduce(&mut values), Err(aborted.clone()));
        assert_eq!(solo.all_gather(&mut []), Err(aborted));
    }
}
