//! Helpers of the tests, with the fake backend
