// SPDX-License-Identifier: Apache-2.0

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.lambda.LambdaClient;
import software.amazon.awssdk.services.lambda.model.InvokeResponse;
import software.amazon.awssdk.services.lambda.model.LambdaException;
import software.amazon.awssdk.services.lambda.model.TooManyRequestsException;

/** The AWS SDK for Java as a client of the function host: tests/clients/README.md. */
public class Client {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static ObjectNode failure(SdkException error) {
        ObjectNode said = JSON.createObjectNode().put("status", 0);
        said.put("error", error.getClass().getSimpleName()).put("message", error.getMessage());
        if (error instanceof LambdaException answer) {
            said.put("status", answer.statusCode());
            said.put("error", answer.awsErrorDetails().errorCode());
            said.put("message", answer.awsErrorDetails().errorMessage());
        }
        if (error instanceof TooManyRequestsException busy) {
            said.put("reason", busy.reasonAsString());
        }
        return said;
    }

    private static ObjectNode invoke(LambdaClient client, JsonNode order, int caller) {
        String payload = order.get("payload").asText().replace("%i", String.valueOf(caller));
        try {
            InvokeResponse answer = client.invoke(request -> request
                    .functionName(order.get("function").asText())
                    .payload(SdkBytes.fromUtf8String(payload)));
            return JSON.createObjectNode().put("status", answer.statusCode())
                    .put("function_error", answer.functionError())
                    .put("payload", answer.payload().asByteArray());
        } catch (SdkException error) {
            return failure(error);
        }
    }

    public static void main(String[] words) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        BufferedReader lines = new BufferedReader(
                new InputStreamReader(System.in, StandardCharsets.UTF_8));
        LambdaClient client = LambdaClient.builder()
                .endpointOverride(URI.create(words[0]))
                .region(Region.US_EAST_1)
                .credentialsProvider(StaticCredentialsProvider.create(
                        AwsBasicCredentials.create("none", "none")))
                .build();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode order = JSON.readTree(line);
            List<Future<ObjectNode>> callers = new ArrayList<>();
            for (int i = 0; i < order.path("callers").asInt(1); i++) {
                int caller = i;
                callers.add(threads.submit(() -> invoke(client, order, caller)));
            }
            ArrayNode answers = JSON.createArrayNode();
            for (Future<ObjectNode> each : callers) {
                answers.add(each.get());
            }
            System.out.println(answers);
        }
        threads.shutdown();
    }
}
