//! A part of an optimizer: each of several ranks keeps the moments of its part of every weight, and
//! steps that part.
//!
//! A step is proposed first, on copies, and takes effect where it is accepted: the parts of all
//! ranks are exchanged in between, and any of them may be lost.

use std::ops::Range;

use candle_core::{Result, Var};

use super::adamw::{AdamW, Rates, update_all};
use crate::ops::composed::with_host;

/// What a step would make of a part.
pub(crate) struct Proposal {
    /// Of each weight, the elements of the part.
    pub weights: Vec<Vec<f32>>,
    m: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
}

impl AdamW {
    /// Lets go the moments of all but `ranges`, one for each weight. The state that a checkpoint
    /// has is that of all parts, one after the other.
    ///
    /// # Errors
    /// Weights that are not f32 on the host, or a part that was cut otherwise before.
    pub(crate) fn keep_part(&mut self, ranges: &[Range<usize>]) -> Result<()> {
        for (state, range) in self.weights.iter_mut().zip(ranges) {
            if state.master.is_some() {
                candle_core::bail!("{}: only f32 weights on the host can be sharded", state.name)
            }
            if state.m.len() == range.len() {
                continue;
            }
            let part = |moments: &[f32]| moments.get(range.clone()).map(<[f32]>::to_vec);
            match (part(&state.m), part(&state.v)) {
                (Some(m), Some(v)) => (state.m, state.v) = (m, v),
                _ => candle_core::bail!("{}: another part of it is kept", state.name),
            }
        }
        Ok(())
    }

    /// What a step makes of the part `ranges`, by its gradients.
    ///
    /// # Errors
    /// A part that is not kept, or weights elsewhere than on the host.
    pub(crate) fn propose(
        &self,
        named: &[(String, &Var)],
        ranges: &[Range<usize>],
        gradients: &[&[f32]],
        lr: f64,
    ) -> Result<Proposal> {
        let rates = Rates::new(self.settings, self.step + 1, lr);
        let mut proposal = Proposal { weights: Vec::new(), m: Vec::new(), v: Vec::new() };
        let parts = ranges.iter().zip(gradients);
        for ((state, (name, var)), (range, gradient)) in self.weights.iter().zip(named).zip(parts) {
            let mut w = with_host(var, |values| values.get(range.clone()).map(<[f32]>::to_vec))?;
            let (mut m, mut v) = (state.m.clone(), state.v.clone());
            match &mut w {
                Some(w) if [gradient.len(), m.len(), v.len()] == [w.len(); 3] => {
                    update_all(w, gradient, &mut m, &mut v, rates.of(state.decays));
                }
                _ => candle_core::bail!("{name}: a part that is not kept here"),
            }
            proposal.weights.extend(w);
            proposal.m.push(m);
            proposal.v.push(v);
        }
        Ok(proposal)
    }

    /// The step has been made.
    pub(crate) fn accept(&mut self, proposal: Proposal) {
        self.step += 1;
        let moments = proposal.m.into_iter().zip(proposal.v);
        for (state, (m, v)) in self.weights.iter_mut().zip(moments) {
            (state.m, state.v) = (m, v);
        }
    }
}
