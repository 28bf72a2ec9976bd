// Streams a chat from a server at argv[2] with Node's gRPC and the .proto files in argv[3]; prints each event as JSON.
// argv[4]: the request as JSON. argv[5]: cancel after that many messages.
"use strict";
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, protos, request, cancelAfter] = process.argv.slice(2);
const definition = loader.loadSync("execution_platform/v1/chat.proto", {
  includeDirs: [protos],
  keepCase: true,
  longs: String,
  enums: String,
  oneofs: true,
});
const { ChatService } = grpc.loadPackageDefinition(definition).execution_platform.v1;
const client = new ChatService(address, grpc.credentials.createInsecure());
const call = client.Chat(JSON.parse(request), { deadline: new Date(Date.now() + 60_000) });
let messages = 0;
call.on("data", (response) => {
  messages += 1;
  for (const event of response.events) console.log(JSON.stringify(event));
  if (messages === Number(cancelAfter)) call.cancel();
});
call.on("error", () => {});
call.on("status", (status) => {
  const details = status.metadata.get("grpc-status-details-bin").map((value) => value.toString("base64"));
  console.log(JSON.stringify({ code: status.code, message: status.details, details }));
  client.close();
});
