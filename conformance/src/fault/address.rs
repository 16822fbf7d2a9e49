//! Addresses for brokers that are killed and started again at the same place.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

/// Below what systems give out for outgoing connections: nothing else takes the port while its
/// broker is dead, and no client that tries again connects to itself.
const PORTS: Range<u16> = 10_240..32_768;
const ATTEMPTS: usize = 100;

/// A loopback address that nobody has.
///
/// # Errors
/// As binding fails, after a hundred attempts.
pub fn free_address() -> io::Result<SocketAddr> {
    let mut attempts = 0;
    loop {
        let port = rand::random_range(PORTS);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        attempts += 1;
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) if attempts == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
}
