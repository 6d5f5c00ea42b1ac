//! The crate over real sockets.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod client;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod interim;
#[cfg(test)]
mod proxy_protocol;
#[cfg(test)]
mod server;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod upgrade;
