//! What is told, of all that may happen: each change once, the same state never twice; in the shapes that receivers take.

mod deciding;
mod keeping;
mod shapes;
