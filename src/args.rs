//! The command line. All flags and environment variables end here.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// ElastiCache replication groups on your own Kubernetes.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the operator.
    Operator(Operator),
    /// Turn a CloudFormation template into manifests.
    Convert(Convert),
    /// Print a running group as a CloudFormation template.
    Export(Export),
    /// Print the custom resource definitions.
    Crds,
    /// Print every reason that a condition, an event or a metric may bear, with what to do.
    Reasons,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Debug, Args)]
pub(crate) struct Operator {
    /// The tables of engine images and node types (YAML); the built-in ones where it is absent.
    #[arg(long, env = "KAGAMI_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The namespaces to watch, separated by commas; all where it is empty.
    #[arg(long, env = "KAGAMI_WATCH_NAMESPACES", value_delimiter = ',')]
    pub(crate) watch_namespaces: Vec<String>,
    /// The image that new cache nodes copy their agent from: this operator's own.
    #[arg(long, env = "KAGAMI_AGENT_IMAGE")]
    pub(crate) agent_image: String,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "KAGAMI_LISTEN", default_value = "0.0.0.0:8080")]
    pub(crate) listen: SocketAddr,
    /// How logs are written.
    #[arg(long, env = "KAGAMI_LOG", default_value = "json")]
    pub(crate) log: LogFormat,
    /// This process's name in the leader lease.
    #[arg(long, env = "POD_NAME", default_value = "kagami-local")]
    pub(crate) pod_name: String,
    /// The namespace of the leader lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "kagami-system")]
    pub(crate) pod_namespace: String,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The template; `-` reads the standard input.
    pub(crate) template: String,
    /// A parameter of the template, `NAME=VALUE`; may be repeated.
    #[arg(long = "parameter", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// The value of AWS::Region.
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// The value of AWS::AccountId.
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// The value of AWS::StackName.
    #[arg(long)]
    pub(crate) stack_name: Option<String>,
    /// What Fn::ImportValue gives, `NAME=VALUE`; may be repeated.
    #[arg(long = "import", value_name = "NAME=VALUE")]
    pub(crate) imports: Vec<String>,
    /// The namespace of the manifests.
    #[arg(long, short = 'n')]
    pub(crate) namespace: Option<String>,
    /// What is printed.
    #[arg(long, default_value = "yaml")]
    pub(crate) format: ConvertFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConvertFormat {
    /// Manifests for `kubectl apply -f -`.
    Yaml,
    /// Values for a Helm chart of your own.
    HelmValues,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The replication group.
    pub(crate) name: String,
    /// Its namespace; that of the kubeconfig where it is absent.
    #[arg(long, short = 'n')]
    pub(crate) namespace: Option<String>,
    /// How the template is written.
    #[arg(long, default_value = "yaml")]
    pub(crate) format: ExportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}
