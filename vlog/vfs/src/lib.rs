//! The seams between kvnode and the outside world: files, clock and background execution.
//!
//! Everything that touches a *data directory* goes through [`Vfs`] and [`File`], everything that asks for
//! the time through [`Clock`], and everything that runs in the background through [`Executor`], so that
//! the same engine runs on a real disk with threads, or in one deterministic process on an in-memory disk
//! that forgets what was not synced. This crate holds no policy: it knows nothing of segments or tables.
//!
//! Besides the seams it holds the two encodings that every file format shares: [`frame`] and [`varint`].

pub mod clock;
mod count;
mod dirs;
pub mod exec;
pub mod fault;
pub mod file;
pub mod frame;
pub mod mem;
pub mod op;
pub mod planted;
pub mod real;
mod removal;
pub mod varint;

pub use clock::{Clock, ManualClock, SystemClock};
pub use count::{CountingVfs, Tally};
pub use dirs::create_dir;
pub use exec::{Executor, Gate, Step, SteppedExecutor, ThreadExecutor, Wake, Worker};
pub use fault::FaultVfs;
pub use file::{AlignedBuf, DirEntry, DirLock, File, IoMode, LockError, Space, Vfs};
pub use mem::{MemVfs, Moment, Survival};
pub use op::{Op, OpKind};
pub use real::RealVfs;
pub use removal::RemovalVfs;

/// Unit of direct I/O and of every aligned structure on disk, in bytes.
///
/// A device may rewrite a whole physical sector to change a part of it, so what must survive a torn
/// write never shares a block of this size with what is written later.
pub const BLOCK: usize = 4096;
