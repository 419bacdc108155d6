# SPDX-License-Identifier: Apache-2.0
"""boto3 as a client of the function host: tests/clients/README.md."""

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def invoke(client, order, caller):
    payload = order["payload"].replace("%i", str(caller)).encode()
    try:
        answer = client.invoke(FunctionName=order["function"], Payload=payload)
    except ClientError as error:
        said = error.response
        return {"status": said["ResponseMetadata"]["HTTPStatusCode"], "error": type(error).__name__,
                "message": said["Error"]["Message"], "reason": said.get("Reason")}
    except Exception as error:  # pylint: disable=broad-except
        return {"status": 0, "error": type(error).__name__, "message": str(error)}
    return {"status": answer["StatusCode"], "function_error": answer.get("FunctionError"),
            "payload": base64.b64encode(answer["Payload"].read()).decode()}


def main():
    client = boto3.client(
        "lambda", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="none",
        aws_secret_access_key="none", config=Config(max_pool_connections=50))
    for line in sys.stdin:
        order = json.loads(line)
        callers = order.get("callers", 1)
        with ThreadPoolExecutor(callers) as pool:
            answers = list(pool.map(lambda caller, o=order: invoke(client, o, caller),
                                    range(callers)))
        print(json.dumps(answers), flush=True)


main()
