//! `ip-frag`: room for datagrams that arrive in pieces.
//!
//! Each namespace has a limit on the memory of datagrams that are not complete yet, 4 MiB a family unless somebody
//! changed it. Above it every fragment is dropped, until those that are there are given up after half a minute.
//!
//! | signal | changes |
//! |---|---|
//! | fragments of whole datagrams refused with the memory full | `ipfrag_high_thresh` or `ip6frag_high_thresh` of that namespace |
//! | pieces without the rest refused | nothing: that is a flood |
//! | host short of memory (PSI) | halfway back to the original values |

mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::IpFrag, source::IpFragSource};

/// Its name.
pub const NAME: &str = "ip-frag";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<IpFrag>::default(),
        source: Box::new(IpFragSource::new()?),
    })
}
