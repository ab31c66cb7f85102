//! Why: the closed set of reasons that conditions, events, metrics and log fields share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($name:ident: $doc:literal,)+) => {
        /// Why something is as it is. Conditions, events, metrics and log fields take their reasons from this set and no other,
        /// so that one search finds all of them; `docs/reasons.md` is made from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $(#[doc = $doc] $name,)+
        }

        impl Reason {
            /// All reasons, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The reason in CamelCase, as conditions and events show it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What it means and what to do.
            pub const fn doc(self) -> &'static str {
                match self {
                    $(Self::$name => $doc,)+
                }
            }
        }
    };
}

reasons! {
    Available: "Every node is available and the group is as its spec asks. Nothing to do.",
    Creating: "The group is being made: objects are created and nodes start. Wait; the message says for what.",
    CreateReplicationGroupComplete: "The group has become available for the first time. Nothing to do.",
    ReplicationGroupCreated: "The group was accepted and its objects are being created. Nothing to do.",
    AddCacheNodeComplete: "A node has joined the group. Nothing to do.",
    WaitingForPods: "Pods of the group have not started yet. Wait; if it lasts, see the events of the pod that the message names.",
    PodUnschedulable: "The scheduler finds no machine for a node. The message is the scheduler's; free or add what it misses.",
    ZoneNotFound: "A zone that was asked for has no machine. Correct the zone, or add a machine with that value of the label topology.kubernetes.io/zone; the group goes on by itself.",
    InsufficientCacheClusterCapacity: "The machines of the zone have not enough CPU or memory left for the node type. Add machines, choose a smaller cacheNodeType, or set kubernetes.resources.",
    ImageCannotBePulled: "The engine's image cannot be pulled. Correct kubernetes.image or the operator's table of images, or add kubernetes.imagePullSecrets.",
    WaitingForAgent: "A pod runs and its agent has not reported yet. Wait; if it lasts, see the log of the pod.",
    AgentUnreachable: "The agent of a node that was known does not answer. The node counts as unknown, not as down: nothing is done to it until a second witness tells more.",
    AgentTooOld: "The agent of a node does not speak a protocol that this operator knows. Let the node be replaced, or use an operator that is not so much newer.",
    NodeUnknown: "The state of a node could not be learnt, so nothing is done that could destroy data. See whether its machine and the network are well.",
    FormingCluster: "The nodes are being joined to a cluster and given their slots. Wait.",
    SlotsOpen: "Somebody's migration of slots was interrupted and left them open between two primaries. Where nobody but their owner holds keys of them, they are closed once nothing has changed for a minute. Where keys have moved already, nothing is moved or deleted: finish the migration with redis-cli --cluster fix, as the message says.",
    AwaitingSync: "A replica is copying its primary's data and is not in sync yet. Wait.",
    PrimaryDown: "The primary of a shard is down. A replica is being promoted, or is waited for.",
    FencingPrimary: "The primary of a shard is silent. It is being made sure that it accepts no more writes before another node is promoted.",
    Promoting: "A replica is being promoted to primary.",
    FailoverComplete: "A replica has taken over as the primary of its shard. Nothing to do; the message names both nodes.",
    FormerClientsClosed: "The primary endpoint has moved to another node, and the connections that clients still had to the former primary were closed, so that they connect again and reach the new one. Nothing to do.",
    TestFailover: "TestFailover was called by the annotation elasticache.kagami.dev/test-failover: the primary hands its role over and its engine is started again. Nothing to do; FailoverComplete and CacheNodesRebooted follow.",
    TestFailoverNotAvailable: "TestFailover was refused, because the group has no automatic failover or the node group no replica. Nothing was done.",
    RebootCacheNode: "A reboot was asked for by the annotation elasticache.kagami.dev/reboot: the engine of the node is started again, after its role was handed over if it is a primary. Wait; CacheNodesRebooted follows.",
    NodeGroupNotFound: "The node group that TestFailover was called for does not exist. Nothing was done; the node groups are in the status.",
    CacheClusterNotFound: "The cache node whose reboot was asked for does not exist. Nothing was done; the cache nodes are in the status.",
    InvalidReplicationGroupState: "What was asked for needs a group that is whole, and it is not; the message says what is amiss. Nothing was done; ask again when it is.",
    APICallRateForCustomerExceeded: "TestFailover was called for more than 15 node groups within 24 hours. Nothing was done; wait.",
    HandingOver: "A primary is handing its role to a replica, because its pod or machine is about to stop. Nothing to do.",
    RecoveringNode: "A node was lost and is being brought back as a replica. Wait.",
    CacheNodeReplaceStarted: "The machine or the zone of a node is gone for good, and the node is replaced: in its zone if a pod fits there, else in another one where the copies of its shard are not all together. Its volume is given up only where its machine is proven gone and another node serves the copy. Or its zone has machines again, and it moves back there. Wait; CacheNodesRebooted follows.",
    AwayFromZone: "A node was moved to another zone, because its own had lost every machine; its own has had machines again for ten minutes, and the node is not there. The message says why, and how to move it by hand where it does not move by itself. It serves as any other: nothing to do, unless you want it in its zone.",
    CacheNodesRebooted: "The engine of a node was started again. Nothing to do unless it repeats.",
    CrashLooping: "The engine of a node ends again and again. The message has its exit and its last words; see the log of the pod.",
    EngineHung: "The engine of a node stands still: its process lives and has answered its agent nothing for 10 s. Where another live copy holds all that it was heard to hold, it is ended, that copy serves, and the node comes back as a replica: nothing to do. Otherwise nothing is done, because it may go on; see what its machine and its disk wait for, or delete its pod to give it up, as the message says.",
    NoLiveCopy: "No node that can be reached holds a copy of a shard, and another copy may still come back, so the shard is not started empty. Bring the machines that the message names back, or delete their pods and volumes to give the copy up.",
    CopyHeld: "A node came back with a copy that is ahead of what its shard was started again from, and clients have written since. The copy is held as it is; the message says what each holds. Decide with the annotation elasticache.kagami.dev/copy of its pod: use goes on from it, put-aside keeps what serves now and the copy beside it.",
    DataCannotBeLoaded: "An engine ended as it loaded the data of its volume; the message has its last words. The next best volume of the shard is used, and this one is never deleted: it stays, put aside under .kagami/previous once the node has joined again, for repair by hand.",
    VolumeFull: "The volume of a node is full or will be soon: less than 5 % of it is left, or the engine could not write to it. The message says how much is left of how much. Enlarge the node's PersistentVolumeClaim where its storage class allows that, delete keys, or remove what the message names; the engine goes on by itself.",
    DataLost: "No copy of a shard was left and it was started empty, as ElastiCache does. What it held is gone; the message says which slots.",
    RestoredFromVolume: "After every node of a shard had stopped, the best volume was chosen by the agents' records and its data serves again. Nothing to do.",
    InvalidParameterValue: "A value is not allowed. Nothing was changed; correct the property that the message names.",
    InvalidParameterCombination: "Values that are allowed each do not go together. Nothing was changed; correct the properties that the message names.",
    CacheParameterGroupNotFound: "The ParameterGroup does not exist in this namespace. Create it, or correct cacheParameterGroupName; the group goes on by itself.",
    CacheSubnetGroupNotFound: "The SubnetGroup does not exist in this namespace. Create it, or correct cacheSubnetGroupName; the group goes on by itself.",
    SecurityGroupNotFound: "A SecurityGroup does not exist in this namespace. Create it, or correct securityGroupIds; the group goes on by itself.",
    InUse: "The object was deleted while replication groups refer to it, which the message names; ElastiCache refuses that. It stays, in effect, until no group refers to it any more. Change or delete those groups; to keep the object, apply it again once it is gone.",
    EngineRejectedParameter: "The engine did not accept a parameter. Correct the parameter group; the message is the engine's.",
    ParametersApplied: "Parameters of the group's parameter group are in force on a running node. Nothing to do.",
    PendingReboot: "A parameter was changed that takes effect when an engine is started again, as in ElastiCache. The message names it; reboot the nodes.",
    UnsupportedModification: "The change cannot be carried out on a running group by this version. The group runs on as it was; take the change back, or make a new group.",
    Valid: "What the object says is right, and replication groups may use it. Nothing to do.",
    NotInEffect: "Properties of the spec are recorded without an effect; the message names them. Nothing to do unless you count on one of them.",
    NameConflict: "An object that the group needs exists and belongs to somebody else. It was not touched; rename the group or remove the object.",
    ApplyFailed: "The API server refused an object of the group. The message is the API server's; it is tried again.",
    Deleting: "The group is being deleted. Wait.",
    Retained: "The group's object was deleted with deletionPolicy Retain; its nodes run on without an operator and are yours to remove.",
    BugRefused: "The plan broke a promise and was refused by the check that guards every plan. Nothing was done. This is a bug of Kagami: please report the message.",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no reason of the closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReason;

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a reason of the closed set")
    }
}

impl std::error::Error for UnknownReason {}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text).ok_or(UnknownReason)
    }
}

/// The page `docs/reasons.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Reasons\n\n\
         The reasons of conditions, events, metrics (label `reason`) and log fields: a closed set. This page is made from\n\
         `crates/api/src/reason.rs`; `UPDATE=1 cargo test -p kagami-api` writes it anew.\n\n\
         | reason | what it means and what to do |\n|---|---|\n",
    );
    for reason in Reason::ALL {
        page.push_str(&format!("| `{reason}` | {} |\n", reason.doc()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_camel_case_and_is_read_back() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
            assert_eq!(text.parse(), Ok(*reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), text);
        }
    }

    #[test]
    fn every_reason_says_what_to_do_in_whole_sentences() {
        for reason in Reason::ALL {
            assert!(reason.doc().ends_with('.'), "{reason}");
            assert!(!reason.doc().contains('|'), "{reason}");
        }
    }
}
