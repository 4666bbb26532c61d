//! The infrastructure provider's side of Cluster API's contract.

pub mod cluster;
pub mod machine;
