//! The mediator between a driver and a device, from outside.

mod admin;
mod buffers;
mod completion;
mod enabling;
mod flow;
mod io;
mod limits;
mod mapping;
mod queues;
mod quiet;
