//! What can go wrong in a run, and whose fault it is: the input's or the run's.

use std::path::PathBuf;

use imagent_algorithms::TrainError;
use imagent_analysis::AnalysisError;
use imagent_core::{ChatError, EncodeError, PolicyError};
use imagent_data::DataError;
use imagent_models::error::ModelError;

use crate::bench::BenchError;
use crate::config::ConfigError;
use crate::hub::HubError;

/// The facade's error; what the crates say passes through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A benchmark cannot be run so.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A dataset is refused or could not be made.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint is refused.
    #[error("cannot open the model")]
    OpenModel(#[source] ModelError),
    /// A checkpoint could not be written.
    #[error("cannot keep a checkpoint")]
    SaveModel(#[source] ModelError),
    /// There is no such checkpoint folder.
    #[error("{}: no such model folder", path.display())]
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such folder, beside others that are there, and the hub does not have it under this name either.
    #[error("{}: no such model folder, nor can it be had from the hub", path.display())]
    NeitherModel {
        /// The folder.
        path: PathBuf,
        /// What came of asking for it.
        source: HubError,
    },
    /// A model could not be had from the hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// There is no adapter in a folder.
    #[error("`model.adapter`: {}: holds no adapter_config.json", path.display())]
    NoAdapter {
        /// The folder.
        path: PathBuf,
    },
    /// The model is an adapter, and another one is named.
    #[error("`model.adapter`: {} (`model.path`) is an adapter already; name one of them", path.display())]
    TwoAdapters {
        /// The folder.
        path: PathBuf,
    },
    /// An adapter does not say which model it is for.
    #[error("{}: adapter_config.json names no base_model_name_or_path; give the model as model.path and this folder as model.adapter", path.display())]
    NoBaseOfAdapter {
        /// The folder.
        path: PathBuf,
    },
    /// This build has no base model.
    #[error("model.path = \"nano\": this build comes without a base model; name a checkpoint folder")]
    NoBase,
    /// No dataset is named.
    #[error("`{key}` is not set: name a dataset folder")]
    NoDataset {
        /// The key.
        key: &'static str,
    },
    /// A sample that does not exist was asked for.
    #[error("no sample at position {position}, the dataset has {samples}")]
    NoSample {
        /// The position, counted from 0.
        position: usize,
        /// How many samples there are.
        samples: usize,
    },
    /// A file does not hold what it should.
    #[error("{}: {problem}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A record could not be written or read.
    #[error(transparent)]
    Record(#[from] AnalysisError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The output folder is in use.
    #[error("{}: holds {what} already; continue it with --resume, or choose another folder with --out", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// A run, or other files.
        what: &'static str,
    },
    /// The folder holds a run of another config.
    #[error("{}: the run there has `{key} = {found}`, this config has {wanted}; only a run with its own config can be resumed", path.display())]
    OtherRun {
        /// The run's config file.
        path: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value there.
        found: String,
        /// Its value here.
        wanted: String,
    },
    /// A checkpoint cannot be trained on.
    #[error("{}: {problem}", path.display())]
    BadCheckpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder for an evaluation holds something else.
    #[error("{}: holds {what}, and is no folder of an evaluation; choose another with --save", path.display())]
    NotAnEvaluation {
        /// The folder.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// A run that is resumed has more steps behind it than it is to have.
    #[error("{}: the run there has {done} steps, `train.steps` is {steps}", path.display())]
    RanLonger {
        /// The run's folder.
        path: PathBuf,
        /// Steps done.
        done: usize,
        /// Steps wanted.
        steps: usize,
    },
    /// The model failed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A served model could not be asked.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A server that anybody could reach would let anybody in.
    #[error(
        "--host {host}: a server beyond loopback needs a token; name the environment variable that holds one with --token-env"
    )]
    OpenServer {
        /// The address.
        host: std::net::IpAddr,
    },
    /// A demonstration could not be turned into tokens.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A sample cannot be trained on.
    #[error("{id}: {problem}")]
    BadTrajectory {
        /// The sample.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A stage of a course did not reach what it must.
    #[error("stage {stage} did not pass its gate: {failed}; the model as it is: {}", kept.display())]
    Gate {
        /// The stage.
        stage: String,
        /// What does not hold.
        failed: String,
        /// Where the model was kept.
        kept: PathBuf,
    },
    /// The folder of an ablation holds a run of another config.
    #[error(transparent)]
    ChangedArm(#[from] Box<ChangedArm>),
    /// Another process writes to a run.
    #[error("{}: another process is still writing this run; try again when it has ended", path.display())]
    Busy {
        /// The run's folder.
        path: PathBuf,
    },
    /// Runs of an ablation failed.
    #[error("{} of {runs} runs failed: {}", failed.len(), failed.join("; "))]
    FailedRuns {
        /// How many runs there are.
        runs: usize,
        /// Arm, seed and reason of each.
        failed: Vec<String>,
    },
    /// The user stopped an ablation.
    #[error("interrupted, {done} of {runs} runs are done; the same command goes on")]
    InterruptedAblation {
        /// Runs done.
        done: usize,
        /// How many there are.
        runs: usize,
    },
    /// The user stopped the run.
    #[error("interrupted after step {step}; {kept}")]
    Interrupted {
        /// Steps done.
        step: usize,
        /// What is left to go on from.
        kept: String,
    },
}

/// The folder of an ablation holds a run of another config.
#[derive(Debug, thiserror::Error)]
#[error("arm `{arm}`, seed {seed}: the run in {} has `{key} = {found}`, the arm has {wanted} now; choose another folder with --out, or remove that one", path.display())]
pub struct ChangedArm {
    /// The arm.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The run's folder.
    pub path: PathBuf,
    /// The first key that differs.
    pub key: String,
    /// Its value there.
    pub found: String,
    /// Its value here.
    pub wanted: String,
}

impl Error {
    /// Whether what was given is at fault, and not the run.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Data(error) => !matches!(error, DataError::Io { .. } | DataError::Rewrite { .. }),
            Self::Train(error) => {
                matches!(error, TrainError::Setting { .. } | TrainError::Sample { .. } | TrainError::NoSamples)
            }
            Self::OpenModel(error) => !matches!(error, ModelError::Device { .. }),
            Self::Hub(error) | Self::NeitherModel { source: error, .. } => error.is_input(),
            Self::SaveModel(_)
            | Self::Record(_)
            | Self::Io { .. }
            | Self::Policy(_)
            | Self::Encode(_)
            | Self::Chat(_)
            | Self::Gate { .. }
            | Self::Busy { .. }
            | Self::FailedRuns { .. }
            | Self::InterruptedAblation { .. }
            | Self::Interrupted { .. } => false,
            Self::Config(_)
            | Self::Bench(_)
            | Self::NoModel { .. }
            | Self::NoBase
            | Self::NoAdapter { .. }
            | Self::TwoAdapters { .. }
            | Self::NoBaseOfAdapter { .. }
            | Self::NoDataset { .. }
            | Self::BadFile { .. }
            | Self::OpenServer { .. }
            | Self::NoSample { .. }
            | Self::Occupied { .. }
            | Self::OtherRun { .. }
            | Self::RanLonger { .. }
            | Self::NotAnEvaluation { .. }
            | Self::ChangedArm(_)
            | Self::BadTrajectory { .. }
            | Self::BadCheckpoint { .. } => true,
        }
    }
}
