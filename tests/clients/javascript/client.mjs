// SPDX-License-Identifier: Apache-2.0
// @aws-sdk/client-lambda as a client of the function host: tests/clients/README.md.

import { createInterface } from "node:readline";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

const client = new LambdaClient({
  endpoint: process.argv[2],
  region: "us-east-1",
  credentials: { accessKeyId: "none", secretAccessKey: "none" },
});

async function invoke(order, caller) {
  const payload = Buffer.from(order.payload.replaceAll("%i", String(caller)));
  try {
    const answer = await client.send(
      new InvokeCommand({ FunctionName: order.function, Payload: payload }),
    );
    return {
      status: answer.StatusCode,
      function_error: answer.FunctionError ?? null,
      payload: Buffer.from(answer.Payload ?? []).toString("base64"),
    };
  } catch (error) {
    return {
      status: error.$metadata?.httpStatusCode ?? 0,
      error: error.name,
      message: error.message,
      reason: error.Reason,
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  const callers = Array.from({ length: order.callers ?? 1 }, (_, i) => invoke(order, i));
  console.log(JSON.stringify(await Promise.all(callers)));
}
