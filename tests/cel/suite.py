"""The conformance cases of the CEL specification, read from the package that ships them.

cases() fetches the pinned version with the Go client (the newer package) or the npm client, turns
each case into one line of the command's NDJSON (docs/cel.md) plus what is expected of it, and says
which part of the language it belongs to. Nothing of the suite is stored in this repository.
"""
import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import zipfile

GO_MODULE, GO_VERSION = "cel.dev/expr", "v0.25.3"
NPM_PACKAGE, NPM_VERSION = "@bufbuild/cel-spec", "0.6.1"

EXTENSIONS = {"string_ext", "math_ext", "optionals", "lists_ext", "macros2", "bindings_ext", "encoders_ext"}
MESSAGES = {"dynamic", "enums", "wrappers", "proto2", "proto3", "proto2_ext"}
TIERS = ["core", "ext", "typecheck", "network", "block", "protobuf"]


class Unavailable(Exception):
    """Neither client is there, or the package cannot be had."""


def cache():
    root = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    path = root / "millrace-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def fetch_go():
    """The module's zip, by the Go client."""
    answer = json.loads(run("go", "mod", "download", "-json", f"{GO_MODULE}@{GO_VERSION}", cwd="/"))
    return pathlib.Path(answer["Zip"])


def unpack(archive):
    """proto/ and tests/ of the module, as files."""
    target = cache() / f"cel-expr-{GO_VERSION}"
    if not (target / "done").exists():
        prefix = f"{GO_MODULE}@{GO_VERSION}/"
        with zipfile.ZipFile(archive) as members:
            for name in members.namelist():
                inner = name.removeprefix(prefix)
                if inner.startswith(("proto/", "tests/")) and ".." not in inner:
                    path = target / inner
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(members.read(name))
        (target / "done").touch()
    return target


def message_classes(source):
    """The suite's message types: its .proto files, compiled by protoc."""
    from google.protobuf import descriptor_pb2, descriptor_pool
    from google.protobuf.message_factory import MessageFactory
    protos = sorted(str(path.relative_to(source / "proto")) for path in (source / "proto").rglob("*.proto")
                    if "policy" not in path.parts)
    compiled = source / "descriptors.pb"
    run("protoc", "-I", str(source / "proto"), "-I", "/usr/include", "--include_imports",
        f"--descriptor_set_out={compiled}", *protos)
    files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    factory = MessageFactory(pool)
    return pool, factory.GetPrototype(
        pool.FindMessageTypeByName("cel.expr.conformance.test.SimpleTestFile"))


def plain_escapes(text):
    """textproto whose \\u and \\U escapes are octal ones: Python's reader does not know the former."""
    def octal(match):
        code = match[1]
        if code[0] not in "uU":
            return match[0]
        return "".join(f"\\{byte:03o}" for byte in chr(int(code[1:], 16)).encode())
    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", octal, text)


def read_go():
    from google.protobuf import json_format, text_format
    source = unpack(fetch_go())
    pool, file_class = message_classes(source)
    for path in sorted((source / "tests/simple/testdata").glob("*.textproto")):
        file = text_format.Parse(plain_escapes(path.read_text()), file_class(), descriptor_pool=pool)
        for section in file.section:
            for test in section.test:
                yield file.name, section.name, json_format.MessageToDict(test, descriptor_pool=pool)


NODE = """
import(process.argv[1]).then(module => {
  const exact = (key, value) => Object.is(value, -0) ? "-0.0" : value;
  for (const file of module.tests.suites) for (const section of file.suites)
    for (const test of section.tests)
      console.log(JSON.stringify([file.name, section.name, test.original], exact));
});
"""


def read_npm():
    target = cache() / f"cel-spec-{NPM_VERSION}"
    module = target / "node_modules" / NPM_PACKAGE / "dist/esm/testdata/conformance.js"
    if not module.exists():
        target.mkdir(parents=True, exist_ok=True)
        run("npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", str(target),
            f"{NPM_PACKAGE}@{NPM_VERSION}")
    for line in run("node", "-e", NODE, str(module)).splitlines():
        yield json.loads(line)


def number_text(value):
    """A double as the NDJSON spells it."""
    if isinstance(value, str):
        return {"-0": "-0.0"}.get(value, value)
    if value == 0 and str(value).startswith("-"):
        return "-0.0"
    return repr(float(value))


def seconds_text(text):
    """'1.5s' of protobuf's JSON as seconds and nanoseconds of one sign."""
    sign, body = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = body.removesuffix("s").partition(".")
    nanos = int(fraction.ljust(9, "0")) if fraction else 0
    return {"s": str(int(sign + whole)), "ns": -nanos if sign else nanos}


def moment(text):
    import calendar
    day, _, rest = text.removesuffix("Z").partition("T")
    clock, _, fraction = rest.partition(".")
    year, month, date = map(int, day.split("-"))
    hour, minute, second = map(int, clock.split(":"))
    days = (calendar.timegm((2000 + year % 400, month, date, 0, 0, 0)) // 86400
            + (year // 400 * 400 - 2000) // 400 * 146097)
    return {"s": str(days * 86400 + hour * 3600 + minute * 60 + second),
            "ns": int(fraction.ljust(9, "0")) if fraction else 0}


class NeedsMessage(Exception):
    """The case is about a protocol-buffer message."""


def value_of(value):
    """A cel.expr.Value in protobuf's JSON as a VALUE of the NDJSON."""
    (kind, content), = value.items() if value else [("nullValue", None)]
    if kind == "int64Value":
        return {"int64": str(content)}
    if kind == "uint64Value":
        return {"uint64": str(content)}
    if kind == "doubleValue":
        return {"double": number_text(content)}
    if kind == "stringValue":
        return {"string": content}
    if kind == "bytesValue":
        return {"bytes": base64.b64decode(content).hex()}
    if kind == "boolValue":
        return {"bool": content}
    if kind == "nullValue":
        return {"null": None}
    if kind == "typeValue":
        return {"type": content}
    if kind == "listValue":
        return {"list": [value_of(item) for item in content.get("values", [])]}
    if kind == "mapValue":
        return {"map": [[value_of(entry["key"]), value_of(entry["value"])]
                        for entry in content.get("entries", [])]}
    if kind == "objectValue" and content["@type"].endswith("google.protobuf.Timestamp"):
        return {"timestamp": moment(content["value"])}
    if kind == "objectValue" and content["@type"].endswith("google.protobuf.Duration"):
        return {"duration": seconds_text(content["value"])}
    raise NeedsMessage(kind)


PRIMITIVES = {"BOOL": "bool", "INT64": "int", "UINT64": "uint", "DOUBLE": "double", "STRING": "string",
              "BYTES": "bytes"}
WELL_KNOWN = {"ANY": "dyn", "TIMESTAMP": "google.protobuf.Timestamp", "DURATION": "google.protobuf.Duration"}


def type_of(declared):
    """A cel.expr.Type in protobuf's JSON as text."""
    (kind, content), = declared.items()
    if kind == "primitive":
        return PRIMITIVES[content]
    if kind == "wrapper":
        return f"wrapper({PRIMITIVES[content]})"
    if kind == "wellKnown":
        return WELL_KNOWN[content]
    if kind == "dyn":
        return "dyn"
    if kind == "null":
        return "null_type"
    if kind == "listType":
        return f"list({type_of(content.get('elemType', {'dyn': {}}))})"
    if kind == "mapType":
        return (f"map({type_of(content.get('keyType', {'dyn': {}}))}, "
                f"{type_of(content.get('valueType', {'dyn': {}}))})")
    if kind == "typeParam":
        return content
    if kind == "type":
        return f"type({type_of(content)})" if content else "type"
    if kind == "abstractType":
        inner = ", ".join(type_of(item) for item in content.get("parameterTypes", []))
        return f"{content['name']}({inner})" if inner else content["name"]
    if kind == "messageType" and content in WELL_KNOWN.values():
        return content
    raise NeedsMessage(kind)


def declaration_of(declared):
    if "ident" in declared:
        return {"name": declared["name"], "type": type_of(declared["ident"]["type"])}
    return {"name": declared["name"], "overloads": [
        {"id": overload.get("overloadId", ""), "args": [type_of(item) for item in overload.get("params", [])],
         "result": type_of(overload["resultType"]), "member": overload.get("isInstanceFunction", False)}
        for overload in declared["function"]["overloads"]]}


def expectation_of(test):
    """What the case expects: a value, an error, a type; a value of true when it says nothing."""
    if "evalError" in test or "anyEvalErrors" in test:
        return {"error": True}
    if "typedResult" in test:
        typed = test["typedResult"]
        expect = {"type": type_of(typed["deducedType"])} if "deducedType" in typed else {}
        if not test.get("checkOnly") and "result" in typed:
            expect["value"] = value_of(typed["result"])
        return expect
    return {"value": value_of(test["value"]) if "value" in test else {"bool": True}}


def mentions_message(test):
    text = test["expr"] + test.get("container", "") + json.dumps(test.get("typeEnv", []))
    return any(word in text for word in ("TestAllTypes", "NestedMessage", "conformance.proto", "google.protobuf.Any",
                                         "Value{", "google.protobuf.Struct", "google.protobuf.Value",
                                         "google.protobuf.ListValue", "Wrapper", "proto.",
                                         "Timestamp{", "Duration{"))


def tier_of(file):
    if file in MESSAGES:
        return "protobuf"
    if file in EXTENSIONS:
        return "ext"
    return {"type_deductions": "typecheck", "network_ext": "network", "block_ext": "block"}.get(file, "core")


def case_of(file, section, test):
    tier, expect = tier_of(file), None
    line = {"expr": test["expr"]}
    for ours, theirs in (("container", "container"), ("disable_check", "disableCheck"),
                         ("disable_macros", "disableMacros")):
        if theirs in test:
            line[ours] = test[theirs]
    try:
        if tier == "protobuf" or mentions_message(test):
            raise NeedsMessage
        expect = expectation_of(test)
        if "typeEnv" in test:
            line["type_env"] = [declaration_of(declared) for declared in test["typeEnv"]]
        if "bindings" in test:
            line["bindings"] = {name: value_of(bound["value"]) for name, bound in test["bindings"].items()}
    except NeedsMessage:
        tier = "protobuf"
    return {"tier": tier, "file": file, "check_only": test.get("checkOnly", False), "line": line, "expect": expect,
            "id": f"{file}/{section}/{test['name']}"}


def cases():
    """All cases of the suite, in its order, and where they come from."""
    if shutil.which("go"):
        raw, source = list(read_go()), f"{GO_MODULE} {GO_VERSION}"
    elif shutil.which("npm") and shutil.which("node"):
        raw, source = list(read_npm()), f"{NPM_PACKAGE} {NPM_VERSION}"
    else:
        raise Unavailable("neither go nor npm is installed")
    found, seen = [], {}
    for file, section, test in raw:
        case = case_of(file, section, test)
        seen[case["id"]] = seen.get(case["id"], 0) + 1
        if seen[case["id"]] > 1:
            case["id"] += f"#{seen[case['id']]}"
        case["line"]["id"] = case["id"]
        found.append(case)
    return found, source
