//! Clients of the vendors' protocols. Credentials come from the URL's options, else as the vendor's own programs find them.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{
    BackoffConfig, ClientOptions, HeaderValue, ObjectStore, Result, RetryConfig, StaticCredentialProvider,
};

use super::place::{Bucket, Vendor};

/// A request is given up after so long: a part of an object, at 140 KB/s.
const REQUEST: Duration = Duration::from_mins(1);
/// A connection is given up after so long.
const CONNECT: Duration = Duration::from_secs(3);
/// No request is tried again later than so long after its first try: waiting for a service is a run's own business.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client of the bucket; nothing is asked of it yet.
pub(super) fn client(bucket: &Bucket) -> Result<Arc<dyn ObjectStore>> {
    Ok(match bucket.vendor {
        Vendor::S3 => Arc::new(s3(bucket)?),
        Vendor::Google => Arc::new(google(bucket)?),
        Vendor::Azure => Arc::new(azure(bucket)?),
    })
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(2), base: 2.0 };
    RetryConfig { backoff, max_retries: 4, retry_timeout: PATIENCE }
}

/// What does not speak TLS is spoken to only where its endpoint says so.
fn options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
        .with_connect_timeout(CONNECT)
        .with_timeout(REQUEST)
        .with_user_agent(HeaderValue::from_static(concat!("outflow/", env!("CARGO_PKG_VERSION"))))
}

fn s3(bucket: &Bucket) -> Result<object_store::aws::AmazonS3> {
    let mut builder = AmazonS3Builder::from_env();
    // Stronger than the other variable of the environment that names an endpoint, too.
    for (option, key) in [
        ("endpoint", AmazonS3ConfigKey::S3Endpoint),
        ("region", AmazonS3ConfigKey::Region),
        ("virtual_hosted", AmazonS3ConfigKey::VirtualHostedStyleRequest),
    ] {
        if let Some(value) = bucket.option(option) {
            builder = builder.with_config(key, value);
        }
    }
    if let (Some(id), Some(key)) = (bucket.option("access_key_id"), bucket.option("secret_access_key")) {
        let token = bucket.option("session_token").map(str::to_owned);
        let credential = AwsCredential { key_id: id.to_owned(), secret_key: key.to_owned(), token };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let options = options(endpoint.as_deref());
    builder.with_bucket_name(&bucket.name).with_client_options(options).with_retry(retry()).build()
}

fn google(bucket: &Bucket) -> Result<object_store::gcp::GoogleCloudStorage> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    for (option, key) in [
        ("endpoint", GoogleConfigKey::BaseUrl),
        ("service_account", GoogleConfigKey::ServiceAccount),
        ("bearer_token", GoogleConfigKey::BearerToken),
    ] {
        if let Some(value) = bucket.option(option) {
            builder = builder.with_config(key, value);
        }
    }
    let options = options(builder.get_config_value(&GoogleConfigKey::BaseUrl).as_deref());
    builder.with_bucket_name(&bucket.name).with_client_options(options).with_retry(retry()).build()
}

fn azure(bucket: &Bucket) -> Result<object_store::azure::MicrosoftAzure> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    for (option, key) in [("endpoint", AzureConfigKey::Endpoint), ("account", AzureConfigKey::AccountName)] {
        if let Some(value) = bucket.option(option) {
            builder = builder.with_config(key, value);
        }
    }
    if builder.get_config_value(&AzureConfigKey::AccountName).is_none() {
        let source = "Name the account by the option account, or by AZURE_STORAGE_ACCOUNT_NAME".into();
        return Err(object_store::Error::Generic { store: "az", source });
    }
    if let Some(key) = bucket.option("account_key") {
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(key)?);
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    let options = options(builder.get_config_value(&AzureConfigKey::Endpoint).as_deref());
    builder.with_container_name(&bucket.name).with_client_options(options).with_retry(retry()).build()
}
