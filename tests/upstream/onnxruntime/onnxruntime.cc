// SPDX-License-Identifier: Apache-2.0
// Runs small ONNX models: MatMul of matrices, Add, Relu and Identity, on floats. Protobuf's
// encoding is read by hand; the field numbers are those of onnx.proto.
#include <onnxruntime_c_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

struct Bad {
  std::string why;
};

// --- protobuf --------------------------------------------------------------------------------

struct Reader {
  const unsigned char *at, *end;

  explicit Reader(const std::string& data)
      : at(reinterpret_cast<const unsigned char*>(data.data())), end(at + data.size()) {}

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at == end) throw Bad{"the file ends in the middle"};
      value |= uint64_t(*at & 0x7f) << shift;
      if ((*at++ & 0x80) == 0) return value;
    }
    throw Bad{"not a number of protobuf's"};
  }

  std::string Bytes(uint64_t size) {
    if (size > uint64_t(end - at)) throw Bad{"the file ends in the middle"};
    at += size;
    return std::string(reinterpret_cast<const char*>(at - size), size);
  }

  // Reads one field: `number` is its value where it is a varint, `bytes` all others.
  bool Next(int* field, uint64_t* number, std::string* bytes) {
    if (at == end) return false;
    const uint64_t key = Varint();
    *field = int(key >> 3);
    *number = 0;
    bytes->clear();
    switch (key & 7) {
      case 0: *number = Varint(); return true;
      case 1: *bytes = Bytes(8); return true;
      case 2: *bytes = Bytes(Varint()); return true;
      case 5: *bytes = Bytes(4); return true;
      default: throw Bad{"not protobuf"};
    }
  }
};

// Calls `use(field, number, bytes)` for each field of a message.
template <typename Use>
void Each(const std::string& message, Use use) {
  Reader reader(message);
  int field = 0;
  uint64_t number = 0;
  std::string bytes;
  while (reader.Next(&field, &number, &bytes)) use(field, number, bytes);
}

// --- the model -------------------------------------------------------------------------------

enum { FLOAT = 1 };

struct Value {
  std::vector<int64_t> dims;
  std::vector<float> data;
};

struct Node {
  std::string kind;
  std::vector<std::string> inputs, outputs;
};

struct Info {
  std::string name;
  std::vector<int64_t> dims;
};

size_t Count(const std::vector<int64_t>& dims) {
  size_t count = 1;
  for (int64_t dim : dims) count *= size_t(dim);
  return count;
}

void ParseTensor(const std::string& message, std::string* name, Value* value) {
  uint64_t type = 0;
  Each(message, [&](int field, uint64_t number, const std::string& bytes) {
    if (field == 1 && bytes.empty()) value->dims.push_back(int64_t(number));
    if (field == 1)
      for (Reader packed(bytes); packed.at != packed.end;)
        value->dims.push_back(int64_t(packed.Varint()));
    if (field == 2) type = number;
    if (field == 8) *name = bytes;
    if (field == 4 || field == 9) {  // float_data or raw_data: the same bytes
      const size_t old = value->data.size();
      value->data.resize(old + bytes.size() / sizeof(float));
      memcpy(&value->data[old], bytes.data(), bytes.size() / sizeof(float) * sizeof(float));
    }
  });
  if (type != FLOAT) throw Bad{"only tensors of floats are known here"};
  if (value->data.size() != Count(value->dims)) throw Bad{"a tensor of the wrong size"};
}

Info ParseInfo(const std::string& message) {
  Info info;
  uint64_t type = 0;
  Each(message, [&](int field, uint64_t, const std::string& info_bytes) {
    if (field == 1) info.name = info_bytes;
    if (field != 2) return;
    Each(info_bytes, [&](int, uint64_t, const std::string& tensor) {
      Each(tensor, [&](int part, uint64_t number, const std::string& shape) {
        if (part == 1) type = number;
        if (part != 2) return;
        Each(shape, [&](int, uint64_t, const std::string& dim) {
          int64_t size = -1;
          Each(dim, [&](int kind, uint64_t value, const std::string&) {
            if (kind == 1) size = int64_t(value);
          });
          info.dims.push_back(size);
        });
      });
    });
  });
  if (type != FLOAT) throw Bad{"only tensors of floats are known here"};
  return info;
}

Node ParseNode(const std::string& message) {
  Node node;
  Each(message, [&](int field, uint64_t, const std::string& bytes) {
    if (field == 1) node.inputs.push_back(bytes);
    if (field == 2) node.outputs.push_back(bytes);
    if (field == 4) node.kind = bytes;
  });
  for (const char* known : {"MatMul", "Add", "Relu", "Identity"})
    if (node.kind == known) return node;
  throw Bad{"no kernel for " + node.kind};
}

Value MatMul(const Value& a, const Value& b) {
  if (a.dims.size() != 2 || b.dims.size() != 2 || a.dims[1] != b.dims[0])
    throw Bad{"MatMul: the shapes do not fit"};
  const size_t rows = size_t(a.dims[0]), inner = size_t(a.dims[1]), columns = size_t(b.dims[1]);
  Value c{{a.dims[0], b.dims[1]}, std::vector<float>(rows * columns)};
  for (size_t i = 0; i < rows; ++i)
    for (size_t k = 0; k < inner; ++k)
      for (size_t j = 0; j < columns; ++j)
        c.data[i * columns + j] += a.data[i * inner + k] * b.data[k * columns + j];
  return c;
}

// `b` may lack leading dimensions of `a`.
Value Add(const Value& a, const Value& b) {
  if (b.dims.size() > a.dims.size()) return Add(b, a);
  const size_t skip = a.dims.size() - b.dims.size();
  for (size_t i = 0; i < b.dims.size(); ++i)
    if (a.dims[skip + i] != b.dims[i]) throw Bad{"Add: the shapes do not fit"};
  Value c = a;
  for (size_t i = 0; i < c.data.size(); ++i) c.data[i] += b.data[i % b.data.size()];
  return c;
}

std::string ReadFile(const char* path) {
  FILE* file = fopen(path, "rb");
  if (file == nullptr) throw Bad{std::string("cannot open ") + path};
  std::string data;
  char buffer[4096];
  for (size_t got; (got = fread(buffer, 1, sizeof(buffer), file)) > 0;) data.append(buffer, got);
  fclose(file);
  return data;
}

template <typename Body>
char* Guard(Body body) {
  try {
    body();
    return nullptr;
  } catch (const Bad& bad) {
    return strdup(bad.why.c_str());
  }
}

}  // namespace

struct OrtSession {
  std::vector<Node> nodes;
  std::vector<Info> inputs, outputs;
  std::map<std::string, Value> constants, values;

  void Parse(const std::string& model) {
    bool found = false;
    Each(model, [&](int field, uint64_t, const std::string& graph) {
      if (field != 7) return;
      found = true;
      Each(graph, [&](int part, uint64_t, const std::string& bytes) {
        if (part == 1) nodes.push_back(ParseNode(bytes));
        if (part == 11) inputs.push_back(ParseInfo(bytes));
        if (part == 12) outputs.push_back(ParseInfo(bytes));
        if (part == 5) {
          std::string name;
          Value value;
          ParseTensor(bytes, &name, &value);
          constants[name] = value;
        }
      });
    });
    if (!found) throw Bad{"no graph in it"};
  }

  const Value& Get(const Node& node, size_t index) const {
    const std::string name = index < node.inputs.size() ? node.inputs[index] : "";
    const auto found = values.find(name);
    if (found == values.end()) throw Bad{node.kind + ": no input " + name};
    return found->second;
  }

  void Execute() {
    for (const Node& node : nodes) {
      if (node.outputs.size() != 1) throw Bad{node.kind + ": one output is expected"};
      Value result = node.kind == "MatMul" ? MatMul(Get(node, 0), Get(node, 1))
                     : node.kind == "Add"  ? Add(Get(node, 0), Get(node, 1))
                                           : Get(node, 0);
      if (node.kind == "Relu")
        for (float& one : result.data) one = one < 0 ? 0 : one;
      values[node.outputs[0]] = result;
    }
  }
};

namespace {

char* CreateSession(const char* path, OrtSession** session) {
  OrtSession* made = new OrtSession;
  char* status = Guard([&] { made->Parse(ReadFile(path)); });
  if (status == nullptr)
    *session = made;
  else
    delete made;
  return status;
}

void ReleaseSession(OrtSession* session) { delete session; }
size_t InputCount(const OrtSession* session) { return session->inputs.size(); }
size_t OutputCount(const OrtSession* session) { return session->outputs.size(); }

void Describe(const Info& info, OrtTensor* tensor) {
  *tensor = {info.name.c_str(), info.dims.data(), info.dims.size(), nullptr, 0};
}

void Input(const OrtSession* session, size_t index, OrtTensor* input) {
  Describe(session->inputs[index], input);
}

void Output(const OrtSession* session, size_t index, OrtTensor* output) {
  Describe(session->outputs[index], output);
}

char* Run(OrtSession* session, const OrtTensor* inputs, size_t count, OrtTensor* outputs) {
  return Guard([&] {
    session->values = session->constants;
    for (size_t i = 0; i < count; ++i) {
      Value& value = session->values[inputs[i].name];
      value.dims.assign(inputs[i].dims, inputs[i].dims + inputs[i].dim_count);
      value.data.assign(inputs[i].data, inputs[i].data + inputs[i].size);
      if (value.data.size() != Count(value.dims)) throw Bad{"an input of the wrong size"};
    }
    session->Execute();
    for (size_t i = 0; i < session->outputs.size(); ++i) {
      const std::string& name = session->outputs[i].name;
      const auto found = session->values.find(name);
      if (found == session->values.end()) throw Bad{"nothing gives " + name};
      const Value& value = found->second;
      outputs[i] = {name.c_str(), value.dims.data(), value.dims.size(), value.data.data(),
                    value.data.size()};
    }
  });
}

void ReleaseStatus(char* status) { free(status); }

const OrtApi kApi = {CreateSession, ReleaseSession, InputCount, OutputCount,
                     Input,         Output,         Run,        ReleaseStatus};

const OrtApi* GetApi(uint32_t version) { return version <= ORT_API_VERSION ? &kApi : nullptr; }
const char* GetVersionString() { return "1.16.3"; }

const OrtApiBase kBase = {GetApi, GetVersionString};

}  // namespace

const OrtApiBase* OrtGetApiBase(void) { return &kBase; }
