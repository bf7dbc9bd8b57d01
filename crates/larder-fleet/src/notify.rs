//! Word to people of what has changed: a host fails or builds again, an input is held, no run ends any more.
//!
//! What is said is decided by a pure function of what was said before ([`decide`]), so that nothing is said
//! twice. It is written down before it is sent ([`Outbox`]), so that no crash loses it, and stays there until
//! the receiver has taken it. A receiver that is dead delays nobody for longer than its time limit.

mod decide;
mod event;
mod message;
mod outbox;
mod receiver;
mod send;
mod shape;

pub use decide::{Digest, Reason, Said, Standing, Step, Wants, decide};
pub use event::{Event, EventKind, Failed};
pub use message::{Message, MessageKind};
pub use outbox::{Delivery, Outbox, OutboxError, Trouble};
pub use receiver::{Receiver, Way};
pub use send::{Refusal, SendError, Sender};
pub use shape::{Request, Shape};
