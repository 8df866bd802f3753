//! A learner's state as JSON with a version, for the journal.

use serde::{Deserialize, Serialize};

use super::{Guard, Learner, Spec, State};

/// Rises when the meaning of a saved state changes; older ones are then dropped.
pub const STATE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    spec: Spec,
    guard: Option<Guard>,
    state: State,
}

/// Why a saved state is of no use. What to do is always the same: start anew.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Another version wrote it.
    #[error("saved by another version: {0}, this is {STATE_VERSION}")]
    Version(u32),
    /// The configuration has changed since.
    #[error("learned with other parameters than the configuration has now")]
    Spec,
    /// Not what `save` writes.
    #[error("no saved learner: {0}")]
    Json(#[from] serde_json::Error),
}

impl Learner {
    /// All it has learned, as JSON.
    ///
    /// ```
    /// use bpftune_core::learner::{Learner, Spec};
    /// let spec: Spec = serde_json::from_str(r#"{"name": "hill-climb"}"#).unwrap();
    /// let learner = Learner::new(spec.clone(), 7);
    /// assert_eq!(Learner::load(&spec, None, &learner.save()).unwrap(), learner);
    /// ```
    #[must_use]
    pub fn save(&self) -> String {
        let saved = Saved {
            version: STATE_VERSION,
            spec: self.spec.clone(),
            guard: self.guard.clone(),
            state: self.state.clone(),
        };
        // Strings and finite numbers: nothing in it can fail to be JSON.
        serde_json::to_string(&saved).expect("plain data")
    }

    /// Goes on from a saved state, if it was learned with these parameters by this version.
    ///
    /// # Errors
    /// [`SavedError`]: begin with [`Learner::new`] then.
    pub fn load(
        spec: &Spec,
        guard: Option<&super::guard::Params>,
        json: &str,
    ) -> Result<Learner, SavedError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(json)?;
        if version != STATE_VERSION {
            return Err(SavedError::Version(version));
        }
        let saved: Saved = serde_json::from_str(json)?;
        let fresh = Learner::new(spec.clone(), 0);
        let fits = std::mem::discriminant(&fresh.state) == std::mem::discriminant(&saved.state)
            && match (&fresh.state, &saved.state) {
                (State::Arms(fresh), State::Arms(saved)) => fresh.len() == saved.len(),
                _ => true,
            };
        if saved.spec != *spec || saved.guard.as_ref().map(Guard::params) != guard || !fits {
            return Err(SavedError::Spec);
        }
        Ok(Learner {
            spec: saved.spec,
            guard: saved.guard,
            state: saved.state,
        })
    }
}
