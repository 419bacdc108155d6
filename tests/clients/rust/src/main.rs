// SPDX-License-Identifier: Apache-2.0
//! aws-sdk-lambda as a client of the function host: tests/clients/README.md.

use std::io::BufRead;

use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::{Client, Config};
use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Value};

fn failure(error: SdkError<InvokeError>) -> Value {
    let status = error
        .raw_response()
        .map_or(0, |answer| answer.status().as_u16());
    let reason = match error.as_service_error() {
        Some(InvokeError::TooManyRequestsException(busy)) => {
            busy.reason().map(|reason| reason.as_str().to_owned())
        }
        _ => None,
    };
    json!({"status": status, "error": error.code(), "reason": reason,
           "message": error.message().map_or_else(|| format!("{error:?}"), str::to_owned)})
}

async fn invoke(client: Client, function: String, payload: String) -> Value {
    let call = client
        .invoke()
        .function_name(function)
        .payload(Blob::new(payload))
        .send()
        .await;
    match call {
        Ok(answer) => json!({
            "status": answer.status_code(),
            "function_error": answer.function_error(),
            "payload": BASE64_STANDARD.encode(answer.payload().map_or(&[][..], |p| p.as_ref())),
        }),
        Err(error) => failure(error),
    }
}

#[tokio::main]
async fn main() {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("none", "none", None, None, "test"))
        .endpoint_url(std::env::args().nth(1).expect("the endpoint"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);

    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line.expect("a line")).expect("an order");
        let text = |name: &str| order[name].as_str().expect(name).to_owned();
        let callers: Vec<_> = (0..order["callers"].as_u64().unwrap_or(1))
            .map(|caller| {
                let payload = text("payload").replace("%i", &caller.to_string());
                tokio::spawn(invoke(client.clone(), text("function"), payload))
            })
            .collect();
        let mut answers = Vec::new();
        for caller in callers {
            answers.push(caller.await.expect("an answer"));
        }
        println!("{}", Value::Array(answers));
    }
}
