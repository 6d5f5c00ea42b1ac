//! The crate over real sockets.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod client;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod http2_client;
#[cfg(test)]
mod http2_floods;
#[cfg(test)]
mod http2_rules;
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
