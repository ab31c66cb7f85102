//! Node types: how much memory and CPU a name such as `cache.t4g.micro` stands for.

/// A node type, as AWS publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeType {
    /// The name, such as `cache.t4g.micro`.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// The memory that the engine may use (ElastiCache's parameter maxmemory), in bytes, before anything is reserved.
    pub memory_bytes: i64,
    /// The share of each vCPU that a burstable type may use all the time, in percent; `None` for the others, which is all of it.
    pub baseline_percent: Option<i64>,
    /// The number of clients (ElastiCache's parameter maxclients).
    pub maxclients: i64,
}

impl NodeType {
    /// The CPU request, in thousandths of a CPU: all vCPUs, or the baseline share of a burstable type.
    pub fn cpu_request_millis(&self) -> i64 {
        self.vcpus * 10 * self.baseline_percent.unwrap_or(100)
    }
}

const TABLE: &str = include_str!("node_types.tsv");

/// All node types.
pub fn all() -> impl Iterator<Item = NodeType> {
    TABLE.lines().filter_map(parse)
}

/// The node type of that name.
pub fn find(name: &str) -> Option<NodeType> {
    all().find(|node_type| node_type.name == name)
}

/// Comments and the head of the table are no node types, which is what their missing numbers say.
fn parse(line: &str) -> Option<NodeType> {
    let mut fields = line.split('\t');
    let name = fields.next()?.to_owned();
    let vcpus = fields.next()?.parse().ok()?;
    let memory_bytes = fields.next()?.parse().ok()?;
    let baseline_percent = match fields.next()? {
        "-" => None,
        percent => Some(percent.parse().ok()?),
    };
    let maxclients = fields.next()?.parse().ok()?;
    Some(NodeType { name, vcpus, memory_bytes, baseline_percent, maxclients })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_node_type() {
        let lines = TABLE.lines().filter(|line| line.starts_with("cache.")).count();
        assert_eq!(all().count(), lines);
        assert!(lines >= 112, "{lines}");
        for node_type in all() {
            assert!(node_type.memory_bytes > 100_000_000, "{node_type:?}");
            assert!(node_type.cpu_request_millis() > 0, "{node_type:?}");
        }
    }

    #[test]
    fn the_reference_template_has_512_mib_and_a_fifth_of_a_cpu() {
        let node_type = find("cache.t4g.micro").unwrap();
        assert_eq!(node_type.memory_bytes, 512 << 20);
        assert_eq!(node_type.cpu_request_millis(), 200);
        assert_eq!(find("cache.m6g.large").unwrap().cpu_request_millis(), 2000);
        assert_eq!(find("cache.nonsense"), None);
    }
}
