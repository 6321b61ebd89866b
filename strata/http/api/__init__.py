"""The shape of requests and answers: schemas, OpenAPI, responses."""
