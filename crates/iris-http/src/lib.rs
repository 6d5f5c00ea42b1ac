//! iris-http
