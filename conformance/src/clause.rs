//! Clauses: one contract id, one function, and the table of all of them.
//!
//! A clause's name begins with its id, so that a failing test's name is its reference into
//! `docs/contract.md`. The table is the only list: what is not in it does not run, and a test holds
//! it against the document.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::harness::Capability;
use crate::stage::Context;
use crate::verdict::Checked;

/// How binding a clause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A bus that breaks it is not a bus.
    Must,
    /// A bus may break it, and the table says so; the run does not fail for it.
    Should,
}

/// A clause's function.
pub type Run = fn(Context) -> Pin<Box<dyn Future<Output = Checked> + Send>>;

/// One clause.
#[derive(Clone, Copy)]
pub struct Clause {
    /// The contract's id, such as `DEL-003`.
    pub id: &'static str,
    /// The function's name, which begins with the id: `del_003_no_duplicate`.
    pub name: &'static str,
    /// What it says, in one line.
    pub title: &'static str,
    /// How binding it is.
    pub level: Level,
    /// What a phase must have for it to apply.
    pub needs: &'static [Capability],
    /// Whether it measures the process, so that nothing else may run beside it.
    pub alone: bool,
    /// The function.
    pub run: Run,
}

impl fmt::Debug for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clause")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An id of the contract whose part of the product does not exist yet, so that no function can
/// check it: waived in every phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbuilt {
    /// The contract's id.
    pub id: &'static str,
    /// What is missing, beginning with `not built: `.
    pub reason: &'static str,
}

/// Makes a [`Clause`] of an async function: binding unless `should` stands after its title.
macro_rules! clause {
    ($id:literal, $module:ident::$function:ident, $title:literal) => {
        clause!($id, $module::$function, $title, needs: &[], alone: false)
    };
    ($id:literal, $module:ident::$function:ident, $title:literal, should) => {
        clause!(@ Should, $id, $module::$function, $title, &[], false)
    };
    ($id:literal, $module:ident::$function:ident, $title:literal, should, needs: $needs:expr) => {
        clause!(@ Should, $id, $module::$function, $title, $needs, false)
    };
    ($id:literal, $module:ident::$function:ident, $title:literal, needs: $needs:expr) => {
        clause!($id, $module::$function, $title, needs: $needs, alone: false)
    };
    ($id:literal, $module:ident::$function:ident, $title:literal,
     needs: $needs:expr, alone: $alone:literal) => {
        clause!(@ Must, $id, $module::$function, $title, $needs, $alone)
    };
    (@ $level:ident, $id:literal, $module:ident::$function:ident, $title:literal,
     $needs:expr, $alone:literal) => {
        $crate::clause::Clause {
            id: $id,
            name: stringify!($function),
            title: $title,
            level: $crate::clause::Level::$level,
            needs: $needs,
            alone: $alone,
            run: |context| Box::pin($module::$function(context)),
        }
    };
}
pub(crate) use clause;
