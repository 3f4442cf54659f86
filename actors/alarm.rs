//! Tells when a task ends before it has told anyone itself.

/// Goes off when it is dropped, as a panic does with everything that a task holds; unless it has
/// been disarmed.
pub(crate) struct Alarm<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Alarm<F> {
    pub(crate) fn new(ring: F) -> Self {
        Self(Some(ring))
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Alarm<F> {
    fn drop(&mut self) {
        if let Some(ring) = self.0.take() {
            ring();
        }
    }
}
