// SPDX-License-Identifier: Apache-2.0

// aws-sdk-go-v2 as a client of the function host: tests/clients/README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

type order struct {
	Function string `json:"function"`
	Payload  string `json:"payload"`
	Callers  int    `json:"callers"`
}

type answer struct {
	Status        int     `json:"status"`
	FunctionError *string `json:"function_error"`
	Payload       []byte  `json:"payload"` // written as base64
	Error         string  `json:"error,omitempty"`
	Message       string  `json:"message,omitempty"`
	Reason        string  `json:"reason,omitempty"`
}

func failure(err error) answer {
	var response *awshttp.ResponseError
	var named smithy.APIError
	var busy *types.TooManyRequestsException
	a := answer{Error: "none", Message: err.Error()}

	if errors.As(err, &response) {
		a.Status = response.HTTPStatusCode()
	}
	if errors.As(err, &named) {
		a.Error, a.Message = named.ErrorCode(), named.ErrorMessage()
	}
	if errors.As(err, &busy) {
		a.Reason = string(busy.Reason)
	}
	return a
}

func invoke(client *lambda.Client, o order, caller int) answer {
	payload := strings.ReplaceAll(o.Payload, "%i", strconv.Itoa(caller))
	said, err := client.Invoke(context.Background(), &lambda.InvokeInput{
		FunctionName: aws.String(o.Function),
		Payload:      []byte(payload),
	})
	if err != nil {
		return failure(err)
	}
	return answer{Status: int(said.StatusCode), FunctionError: said.FunctionError,
		Payload: append([]byte{}, said.Payload...)}
}

func main() {
	client := lambda.New(lambda.Options{
		BaseEndpoint: aws.String(os.Args[1]),
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("none", "none", ""),
	})
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		o := order{Callers: 1}
		if err := json.Unmarshal(line, &o); err != nil {
			panic(err)
		}
		answers := make([]answer, o.Callers)
		var all sync.WaitGroup
		for i := range answers {
			all.Add(1)
			go func() {
				defer all.Done()
				answers[i] = invoke(client, o, i)
			}()
		}
		all.Wait()
		json.NewEncoder(os.Stdout).Encode(answers)
	}
}
