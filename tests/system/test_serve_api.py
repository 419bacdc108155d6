# SPDX-License-Identifier: Apache-2.0
"""The interface of virga serve, AWS Lambda's Invoke: by boto3, the AWS CLI, curl and plain HTTP."""

import base64
import datetime
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from botocore import xform_name
from helpers import Running, guest, run, wait_for
from serve_host import FUNCTIONS, Answer, Host, cpu_time
from templates import build, dirty_sum

pytestmark = pytest.mark.system

PAYLOAD_MAX = 6 << 20
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:"


@pytest.fixture(scope="module", name="host")
def one_host(virga, tmp_path_factory):
    """One for all tests here: what one of them does must not matter to the next."""
    folder = tmp_path_factory.mktemp("api")
    template = str(build(virga, folder, name="small"))
    functions = {
        "builtin": {"timeout": 20},
        "json": {"template": template, "json": True},
        "short": {"template": template, "timeout": 0.4},
        "narrow": {"template": template, "concurrency": 1, "queue": 0, "timeout": 10},
    }
    with Host(virga, functions) as host:
        yield host
        host.settled(host.steady())


@pytest.fixture(scope="module", name="client")
def one_client(host):
    return host.client()


# --- Names, types, headers ---


NAMES = ["builtin", "builtin:1", "builtin:$LATEST", "builtin:%24LATEST", ARN + "builtin",
         ARN + "builtin:prod", "123456789012:function:builtin", "bu%69ltin", "function:builtin",
         "us-east-1:123456789012:function:builtin", "builtin:$LATEST.PUBLISHED"]


@pytest.mark.parametrize("name", NAMES)
def test_name(host, name):
    assert host.invoke(b"echo x", name).body == b"x"


@pytest.mark.parametrize("query", ["?Qualifier=1", "?Qualifier=%24LATEST", "?x=y&Qualifier=prod"])
def test_qualifier(host, query):
    with host.connect() as connection:
        answer = connection.ask("POST", f"{FUNCTIONS}/builtin/invocations{query}", b"echo x")
    assert (answer.status, answer.body) == (200, b"x")


@pytest.mark.parametrize("name, qualifier", [
    ("builtin", None), ("builtin", "7"), ("builtin", "$LATEST"), (ARN + "builtin", None),
    (ARN + "builtin:live", None), ("123456789012:function:builtin", "live"),
    ("function:builtin", None), ("us-east-1:123456789012:function:builtin", "live")])
def test_name_by_boto3(client, name, qualifier):
    more = {"Qualifier": qualifier} if qualifier else {}
    assert client.invoke(FunctionName=name, Payload=b"echo x", **more)["Payload"].read() == b"x"


@pytest.mark.parametrize("name", ["", "a%20b", "a.b", "arn:aws:s3:::builtin", 171 * "x", "%zz",
                                  "a%00b", "x:y:builtin", "builtin:a+b", "builtin:"])
def test_no_name(host, name):
    answer = host.invoke(b"", name)
    assert (answer.status, answer.error) == (400, "InvalidParameterValueException"), answer
    assert "NAME" in answer.json()["Message"]


def test_answer(host):
    ids = set()
    for _ in range(20):
        answer = host.echo()
        assert re.fullmatch(UUID, answer.headers["x-amzn-RequestId"])
        assert re.fullmatch("[0-9a-f]{12}", answer.headers["X-Amz-Executed-Version"])
        assert answer.headers["X-Virga-Tier"] in ("armed", "bare", "built")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "X-Amz-Log-Result" not in answer.headers
        ids.add(answer.headers["x-amzn-RequestId"])
    assert len(ids) == 20
    assert answer.headers["X-Amz-Executed-Version"] == host.function()["template"]["version"]


def test_answer_by_boto3(host, client):
    answer = client.invoke(FunctionName="builtin", InvocationType="RequestResponse",
                           Payload=b"dirty 10")
    assert answer["StatusCode"] == 200 and "FunctionError" not in answer
    assert answer["ExecutedVersion"] == host.function()["template"]["version"]
    assert re.fullmatch(UUID, answer["ResponseMetadata"]["RequestId"])
    assert answer["Payload"].read().decode() == dirty_sum(10)


def test_dry_run(host, client):
    before = host.status()
    answer = host.invoke(b"exit 1", headers={"X-Amz-Invocation-Type": "DryRun"})
    assert (answer.status, answer.body) == (204, b"") and "x-amzn-RequestId" in answer.headers
    assert client.invoke(FunctionName="builtin", InvocationType="DryRun")["StatusCode"] == 204
    assert host.function()["outcomes"] == next(
        each for each in before["functions"] if each["name"] == "builtin")["outcomes"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="nobody", InvocationType="DryRun")


# --- Operations ---


def not_offered(client, call, **words):
    with pytest.raises(client.exceptions.ClientError) as caught:
        call(**words)
    said = caught.value.response
    assert said["Error"]["Code"] == "NotImplementedException", said
    assert said["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert said["ResponseMetadata"]["RetryAttempts"] == 0
    return said["Error"]["Message"]


def test_event(host, client):
    answer = host.invoke(b"", headers={"X-Amz-Invocation-Type": "Event"})
    assert (answer.status, answer.error) == (501, "NotImplementedException")
    said = not_offered(client, client.invoke, FunctionName="builtin", InvocationType="Event")
    assert "Event" in said and "RequestResponse" in said


def example(model):
    """The least that a request may be."""
    if model.type_name == "structure":
        return {name: example(model.members[name]) for name in model.required_members}
    size = max(1, model.metadata.get("min", 0))
    if model.type_name == "list":
        return size * [example(model.member)]
    least = {"map": {}, "integer": 1, "long": 1, "boolean": True, "blob": b""}
    return least.get(model.type_name, size * "x")


def test_every_operation(client):
    """Whatever else of the interface is called is not offered, and never a missing resource."""
    model, offered = client.meta.service_model, 0
    for name in model.operation_names:
        operation = model.operation_model(name)
        if name in ("Invoke", "GetFunction", "GetFunctionConfiguration", "ListFunctions"):
            offered += 1
            continue
        words = example(operation.input_shape)
        if "FunctionName" in words:
            words["FunctionName"] = "builtin"
        call = getattr(client, xform_name(name))
        assert "Invoke, GetFunction" in not_offered(client, call, **words), name
    assert offered == 4


def test_every_member(host, client):
    """Whatever else a request to invoke may say is obeyed or refused, not passed over."""
    members = client.meta.service_model.operation_model("Invoke").input_shape.members
    obeyed = {"FunctionName", "InvocationType", "LogType", "Payload", "Qualifier", "TenantId"}
    told = {"ClientContext"}  # for the function to look at or not
    before = host.status()["functions"]
    for name in set(members) - obeyed - told:
        not_offered(client, client.invoke, FunctionName="builtin", **{name: example(members[name])})
    assert [each["outcomes"] for each in host.status()["functions"]] == \
        [each["outcomes"] for each in before]


def test_durable_execution(host):
    answer = host.invoke(b"echo x", headers={"X-Amz-Durable-Execution-Name": "abc"})
    assert (answer.status, answer.error) == (501, "NotImplementedException")
    assert "DurableExecutionName" in answer.json()["Message"]


def test_get_function(host, client):
    known = host.function()["template"]
    configuration = client.get_function_configuration(FunctionName=ARN + "builtin:live")
    answer = client.get_function(FunctionName="builtin")
    del answer["ResponseMetadata"], configuration["ResponseMetadata"]
    assert answer == {
        "Configuration": configuration, "Concurrency": {"ReservedConcurrentExecutions": 100},
        "Code": {"RepositoryType": "virga", "ImageUri": "builtin"}}
    modified = configuration.pop("LastModified")
    assert datetime.datetime.strptime(modified, "%Y-%m-%dT%H:%M:%S.000%z") <= \
        datetime.datetime.now(datetime.timezone.utc)
    assert configuration == {
        "FunctionName": "builtin", "State": "Active", "LastUpdateStatus": "Successful",
        "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:builtin",
        "Version": "$LATEST", "RevisionId": known["version"], "Timeout": 20, "MemorySize":
        known["memory_bytes"] >> 20, "PackageType": "Image", "Architectures": ["x86_64"]}
    assert client.get_function_configuration(FunctionName="short")["Timeout"] == 1
    for call in (client.get_function, client.get_function_configuration):
        with pytest.raises(client.exceptions.ResourceNotFoundException, match="nobody"):
            call(FunctionName="nobody")


@pytest.mark.parametrize("waiter", ["function_exists", "function_active", "function_active_v2",
                                    "function_updated", "function_updated_v2"])
def test_waiter(client, waiter):
    """The first look is enough."""
    client.get_waiter(waiter).wait(FunctionName="json", WaiterConfig={"MaxAttempts": 1})


def test_list_functions(host, client):
    pages = list(client.get_paginator("list_functions").paginate())
    assert len(pages) == 1
    assert {each["FunctionName"]: each["FunctionArn"] for each in pages[0]["Functions"]} == {
        each["name"]: "arn:aws:lambda:us-east-1:000000000000:function:" + each["name"]
        for each in host.status()["functions"]}


def test_other_type(host, client):
    answer = host.invoke(b"", headers={"X-Amz-Invocation-Type": "Whatever"})
    assert (answer.status, answer.error) == (400, "InvalidParameterValueException")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="RequestResponse"):
        client.invoke(FunctionName="builtin", InvocationType="Whatever")


@pytest.mark.parametrize("request_text, tail", [
    ("echo x", b""), ("log 3 a line\n", 3 * b"a line\n"), ("flood 40", 4096 * b"f"),
    ("log 1000 0123456789", (410 * b"0123456789")[-4096:])])
def test_log_tail(host, client, request_text, tail):
    """The last 4 KiB."""
    answer = host.invoke(request_text, headers={"X-Amz-Log-Type": "Tail"})
    said = base64.b64decode(answer.headers["X-Amz-Log-Result"], validate=True)
    if request_text.startswith("flood"):
        assert len(said) == 4096 and set(said) == set(b"f\n") and said[-1:] == b"\n"
        tail = said
    assert said == tail
    again = client.invoke(FunctionName="builtin", LogType="Tail", Payload=request_text)
    assert base64.b64decode(again["LogResult"]) == tail
    assert "LogResult" not in client.invoke(FunctionName="builtin", LogType="None",
                                            Payload=request_text)


def test_log_tail_of_a_fault(host):
    """What was said before it."""
    answer = host.invoke(b"dirty x", headers={"X-Amz-Log-Type": "Tail"})
    assert answer.error == "Function.Error" and answer.headers["X-Amz-Log-Result"] == ""


# --- Errors of the interface ---


def test_no_such_function(host, client):
    answer = host.invoke(b"", "nobody")
    assert (answer.status, answer.error) == (404, "ResourceNotFoundException")
    assert answer.json()["Message"] == "Function not found: nobody"
    assert re.fullmatch(UUID, answer.headers["x-amzn-RequestId"])
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.invoke(FunctionName=ARN + "nobody")
    said = caught.value.response
    assert (said["Error"]["Message"], said["Type"]) == ("Function not found: nobody", "User")
    assert said["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_too_many(host, client):
    """One runs and none may wait."""
    with host.connect() as busy:
        busy.send_invoke("narrow", b"spin 600000000")
        wait_for(lambda: host.function("narrow")["active"] == 1)
        answer = host.invoke(b"", "narrow")
        assert (answer.status, answer.error) == (429, "TooManyRequestsException")
        assert "Retry-After" not in answer.headers and "narrow" in answer.json()["Message"]
        with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
            client.invoke(FunctionName="narrow")
        assert caught.value.response["Reason"] == \
            "ReservedFunctionConcurrentInvocationLimitExceeded"
        host.echo()
    wait_for(lambda: host.function("narrow")["active"] == 0)
    host.echo("narrow")


def test_too_large(host, client):
    answer = host.invoke(bytes(PAYLOAD_MAX + 1))
    assert (answer.status, answer.error) == (413, "RequestTooLargeException")
    assert str(PAYLOAD_MAX) in answer.json()["Message"]
    with pytest.raises(client.exceptions.RequestTooLargeException):
        client.invoke(FunctionName="builtin", Payload=bytes(PAYLOAD_MAX + 1))
    host.echo()


def test_not_json(host, client):
    answer = host.invoke(b"{", "json")
    assert (answer.status, answer.error) == (400, "InvalidRequestContentException")
    with pytest.raises(client.exceptions.InvalidRequestContentException, match="JSON"):
        client.invoke(FunctionName="json", Payload=b"{")
    # One that is too long to be looked at before a machine is chosen.
    assert host.invoke(200000 * b"[", "json").error == "InvalidRequestContentException"
    host.echo()


def test_host_fails(host, client):
    """The process of the machine is killed: that is not the function's fault."""
    with host.connect() as connection:
        connection.send_invoke("builtin", b"hang")
        wait_for(lambda: host.function()["active"] == 1)
        busy = wait_for(lambda: [pid for pid in host.pids("virga-shell") if cpu_time(pid) > 0.1])
        os.kill(busy[0], 9)
        answer = Answer(connection.getresponse())
    assert (answer.status, answer.error) == (500, "ServiceException")
    assert "killed" in answer.json()["Message"] or "ended" in answer.json()["Message"]


# --- Faults of the guest: 200, and what went wrong ---

FAULTS = [
    ("builtin", "dirty x", "Function.Error", "a decimal number is missing"),
    ("builtin", "fault", "Runtime.Crashed", "triple fault"),
    ("builtin", "exit 3", "Runtime.ExitError", "3"),
    ("builtin", "garbage", "Runtime.BrokenChannel", "magic number"),
    ("builtin", "close", "Runtime.BrokenChannel", "closed it"),
    ("builtin", f"big {PAYLOAD_MAX + 1}", "Function.ResponseSizeTooLarge", "longer than 6 MiB"),
    ("short", "mute", "Sandbox.Timedout", "timed out after 0.40 seconds"),
    ("short", "hang", "Sandbox.Timedout", "timed out after 0.40 seconds"),
    ("short", "late 60000000 x", "Sandbox.Timedout", "timed out after 0.40 seconds"),
    ("short", "spin 600000000", "Sandbox.Timedout", "timed out after 0.40 seconds"),
]


@pytest.mark.parametrize("name, request_text, kind, sentence", FAULTS, ids=[f[1] for f in FAULTS])
def test_fault(host, client, name, request_text, kind, sentence):
    answer = host.invoke(request_text, name)
    assert answer.error == kind, answer
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    assert sentence in answer.json()["errorMessage"]
    assert re.fullmatch(UUID, answer.headers["x-amzn-RequestId"])
    again = client.invoke(FunctionName=name, Payload=request_text)
    assert (again["StatusCode"], again["FunctionError"]) == (200, "Unhandled")
    assert json.loads(again["Payload"].read())["errorType"] == kind
    host.echo(name)


@pytest.mark.parametrize("request_text, body", [
    ("twice hello", b"hello"), ("late 2000 hello", b"hello"), ("flood 3000", b""),
    ("log 500 x", b"")])
def test_put_up_with(host, request_text, body):
    """It answers twice, late or between much else: the answer is right."""
    answer = host.invoke(request_text)
    assert (answer.status, answer.error, answer.body) == (200, None, body)


def test_never_ready(virga, tmp_path):
    """A template whose guest has not said READY and does not get to it."""
    with Running(virga, "run", "--kernel", guest("spin"), "--serial", "none", "--control",
                 tmp_path / "c", "--memory", "16M"):
        wait_for((tmp_path / "c").exists)
        done = run(virga, "snapshot", "--now", tmp_path / "c", tmp_path / "t")
        assert done.returncode == 0, done.stderr
    with Host(virga, {"f": {"template": str(tmp_path / "t")}}) as host:
        answer = host.invoke(b"x", "f")
        assert answer.status == 200 and "READY" in answer.json()["errorMessage"], answer
        host.echo()


# --- Payloads ---


def test_json(host, client):
    for value in ({"a": [1, "\u00e9", None]}, "text", 7, None, [], {}):
        text = json.dumps(value)
        answer = host.invoke(text, "json")
        assert (answer.status, json.loads(answer.body)) == (200, value)
        assert answer.headers["Content-Type"] == "application/json"
        answer = client.invoke(FunctionName="json", Payload=text)
        assert json.loads(answer["Payload"].read()) == value
    for text in (b"12345678901234567890123", b'{"a":18446744073709551615}', rb'"a\u0000b"', b"1e999",
                 3000 * b"[" + 3000 * b"]"):
        assert host.invoke(text, "json").body == text
    assert host.invoke(b"", "json").body == b"{}"
    assert client.invoke(FunctionName="json")["Payload"].read() == b"{}"
    for text in (b"{", b"hello", b'{"a":1}x', b"\xff", b'"\xff"'):
        assert host.invoke(text, "json").error == "InvalidRequestContentException", text


SIZES = [0, 1, 4095, 4096, 16000, 16384, 65535, 65536, 1 << 20, PAYLOAD_MAX - 1, PAYLOAD_MAX]


@pytest.mark.parametrize("size", SIZES)
def test_bytes(host, client, size):
    """Of any kind and number: there and back."""
    data = random.Random(size).randbytes(size)
    answer = host.invoke(data)
    assert (answer.status, answer.error) == (200, None) and answer.body == data
    answer = client.invoke(FunctionName="builtin", Payload=data)
    assert answer["StatusCode"] == 200 and answer["Payload"].read() == data


def test_big_answer(host):
    answer = host.invoke(f"big {PAYLOAD_MAX}")
    assert answer.body == (bytes(range(256)) * (PAYLOAD_MAX // 256 + 1))[:PAYLOAD_MAX]


def test_chunks(host):
    data = random.Random(1).randbytes(300000)
    with host.connect() as connection:
        parts = (data[at:at + 7001] for at in range(0, len(data), 7001))
        connection.request("POST", f"{FUNCTIONS}/builtin/invocations", parts, encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read() == data
        assert connection.invoke("builtin", b"echo x").body == b"x"


# --- curl and the AWS CLI ---


def curl(host, *words, name="builtin"):
    done = subprocess.run(["curl", "-sS", "--max-time", "30", *words,
                           f"http://{host.address}{FUNCTIONS}/{name}/invocations"],
                          capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_curl(host, tmp_path):
    assert curl(host, "-d", "echo hello") == (0, b"hello", b"")
    data = random.Random(2).randbytes(PAYLOAD_MAX)  # with Expect: 100-continue
    (tmp_path / "data").write_bytes(data)
    assert curl(host, "--data-binary", f"@{tmp_path}/data") == (0, data, b"")
    assert curl(host, "--data-binary", f"@{tmp_path}/data", "-H", "Transfer-Encoding: chunked") == \
        (0, data, b"")
    (tmp_path / "data").write_bytes(data + b"x")
    status, out, _ = curl(host, "--data-binary", f"@{tmp_path}/data", "-w", "%{http_code}")
    assert status == 0 and out.endswith(b"413")
    status, out, _ = curl(host, "-d", "echo x", "-o", "/dev/null", "-w", "%{num_connects} ",
                          "-i", "--next", "-sS", "-d", "echo y", "-w", "%{num_connects}",
                          f"http://{host.address}{FUNCTIONS}/builtin/invocations")
    assert status == 0 and b"0" in out
    assert curl(host, "--http2", "-d", "echo x") == (0, b"x", b"")  # its Upgrade is not taken
    assert curl(host, "--http1.0", "-d", "echo x") == (0, b"x", b"")


AWS_COMMANDS = {
    1: ([Path(sys.executable).parent / "aws"], []),
    2: (["/usr/bin/aws"], ["--cli-binary-format", "raw-in-base64-out"]),  # Debian's
}


@pytest.mark.parametrize("version", AWS_COMMANDS)
def test_aws_command(host, tmp_path, version):
    """By the lines of the manual, for both major versions."""
    command, text_is_raw = AWS_COMMANDS[version]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "none",
           "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}

    def aws(*words):
        return subprocess.run([*command, *words], env=env, capture_output=True, timeout=60,
                              check=False, text=True)

    assert f"aws-cli/{version}." in aws("--version").stdout
    call = ["lambda", "invoke", "--endpoint-url", f"http://{host.address}", "--function-name"]
    (tmp_path / "in").write_bytes(b"echo h\xe9llo")
    done = aws(*call, "builtin", "--payload", f"fileb://{tmp_path}/in", "--log-type", "Tail",
               tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["StatusCode"] == 200 and said["LogResult"] == ""
    assert said["ExecutedVersion"] == host.function()["template"]["version"]
    assert (tmp_path / "out").read_bytes() == b"h\xe9llo"
    done = aws(*call, "builtin", "--payload", "echo hello", *text_is_raw, tmp_path / "out")
    assert (done.returncode, (tmp_path / "out").read_bytes()) == (0, b"hello"), done.stderr
    done = aws(*call, "nobody", tmp_path / "out")
    assert done.returncode and "(ResourceNotFoundException)" in done.stderr
