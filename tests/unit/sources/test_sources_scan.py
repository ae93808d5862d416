"""CMake files read for what they fetch: conditions, variables, functions, and what nobody can tell."""

from __future__ import annotations

import pytest

from tritonbuild.sources.cmake import Variables, is_true, parse_commands
from tritonbuild.sources.scan import scan


class Files:
    """Files by their made-up path; every external is taken note of."""

    def __init__(self, files: dict[str, str], *, readable: bool = True) -> None:
        self.files = files
        self.readable = readable
        self.found = []

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def bring(self, external) -> bool:
        self.found.append(external)
        return self.readable


def find(text: str, files: dict[str, str] | None = None, **variables: str):
    surroundings = Files({"/source/CMakeLists.txt": text, **(files or {})})
    scan(surroundings, variables)
    return surroundings.found


def one(text: str, **variables: str):
    (found,) = find(text, **variables)
    return found


EXTERNAL = "ExternalProject_Add(x GIT_REPOSITORY https://h/x.git GIT_TAG v1)\n"


def test_grammar():
    text = """
    # comment )
    #[==[ FetchContent_Declare(no) ]] ]==]
    Set(A "quoted ; \\" # no comment" [=[br[ack]]et]=] b;c (nested d) -DX="a b"c)
    broken(((
    """
    (command,) = parse_commands(text)
    assert (command.name, command.line) == ("set", 4)
    assert [argument.text for argument in command.arguments] == [
        "A", 'quoted ; \\" # no comment', "br[ack]]et", "b", "c", "(", "nested", "d", ")",
        '-DX="a b"c',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("ON", True), ("OFF", False), ("0", False), ("YES_THING", None), ("T", True), ("F", False),
        ("${T}", True), ("NOT F AND T", True), ("F OR T AND F", False), ("(F OR T) AND T", True),
        ("U", None), ("U AND F", False), ("U OR T", True), ("NOT U", None), ("WIN32", False),
        ("NAME STREQUAL value", True), ('"${NAME}" STREQUAL "other"', False), ("UNIX", True),
        ("3 LESS 10", True), ("3.9 VERSION_LESS 3.10", True), ("U STREQUAL x", False),
        ("${U} STREQUAL x", None), ("DEFINED T", True), ("DEFINED U", None), ("EXISTS /x", None),
        ("NAME MATCHES v.*", None), ("EMPTY", False), ('""', False), ("AND", None), ("", None),
        ("value IN_LIST LIST", True), ("TARGET x", None), ("X-NOTFOUND", False),
    ],
)  # fmt: skip
def test_conditions(condition, expected):
    known = {"T": "ON", "F": "OFF", "NAME": "value", "EMPTY": "", "LIST": "a;value"}
    (command,) = parse_commands(f"if({condition})")
    assert is_true(command.arguments, Variables(dict(known))) is expected


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        (f"if(ON)\n{EXTERNAL}endif()", [True]),
        (f"if(OFF)\n{EXTERNAL}endif()", []),
        (f"if(OFF)\nelseif(ON)\n{EXTERNAL}else()\n{EXTERNAL}endif()", [True]),
        (f"if(SOMETHING)\n{EXTERNAL}endif()", [False]),
        (f"if(SOMETHING)\n{EXTERNAL}else()\n{EXTERNAL}endif()", [False, False]),
        (f"if(WIN32)\nreturn()\nendif()\n{EXTERNAL}", [True]),
        (f"if(SOMETHING)\nreturn()\nendif()\n{EXTERNAL}", [True]),
        (f"return()\n{EXTERNAL}", []),
        (f"function(f)\n{EXTERNAL}endfunction()", []),
        (f"macro(f)\n{EXTERNAL}endmacro()\nf()", [True]),
        (f"foreach(i a b)\n{EXTERNAL}endforeach()", [True, True]),
        (f"while(X)\n{EXTERNAL}endwhile()", [False]),
        (f"if(ON)\n{EXTERNAL}", [True]),
    ],
)
def test_what_is_surely_fetched(text, certain):
    assert [external.certain for external in find(text)] == certain


def test_endless_recursion_ends():
    find("macro(f)\nf()\nf()\nendmacro()\nf()")
    find("add_subdirectory(.)")
    find("include(${CMAKE_CURRENT_LIST_FILE})\ninclude(CMakeLists.txt)")


def test_variables_reach_the_address():
    text = """
    set(ORG "https://h/org" CACHE STRING "")
    set(TAG main CACHE STRING "")
    option(SHALLOW "" ON)
    list(APPEND PARTS a)
    list(APPEND PARTS b)
    string(REPLACE a b FORGOTTEN ${ORG})
    function(add name)
      ExternalProject_Add(${name} GIT_REPOSITORY ${ORG}/${name}.git GIT_TAG ${TAG}
        CMAKE_ARGS -DPARTS=${PARTS} -DU=${UNKNOWN} CMAKE_CACHE_ARGS -DT:STRING=${TAG})
    endfunction()
    add(core)
    """
    found = one(text, TAG="r1")
    assert (found.repository, found.tag) == ("https://h/org/core.git", "r1")
    assert found.variables == {"PARTS": "a", "T": "r1"} or found.variables["T"] == "r1"
    assert one(text).tag == "main"


def test_branches_that_disagree_make_a_value_unknown():
    text = "if(X)\nset(T a)\nelse()\nset(T b)\nendif()\n"
    found = one(text + "ExternalProject_Add(x GIT_REPOSITORY https://h/x GIT_TAG ${T})")
    assert found.problem == "its address or tag cannot be told before CMake runs"
    same = "if(X)\nset(T a)\nelse()\nset(T a)\nendif()\n"
    assert one(same + "ExternalProject_Add(x GIT_REPOSITORY https://h/x GIT_TAG ${T})").tag == "a"


@pytest.mark.parametrize(
    ("options", "seed"),
    [
        ("", "x-prefix/src/a.tar.gz"),
        ("PREFIX p", "p/src/a.tar.gz"),
        ("PREFIX ${CMAKE_CURRENT_BINARY_DIR}/p", "p/src/a.tar.gz"),
        ("DOWNLOAD_DIR d", "d/a.tar.gz"),
        ("DOWNLOAD_NAME other.zip", "x-prefix/src/other.zip"),
        ("DOWNLOAD_DIR ${CMAKE_SOURCE_DIR}/d", None),
        ("DOWNLOAD_DIR /elsewhere", None),
        ("DOWNLOAD_DIR ../../out", None),
        ("DOWNLOAD_NAME ../../../out.zip", None),
        ("PREFIX -p", None),
    ],
)
def test_where_cmake_looks_for_an_archive(options, seed):
    found = one(f"ExternalProject_Add(x {options} URL https://h/r/a.tar.gz?x=1 URL_HASH SHA1=Ab)")
    assert found.seed == seed
    assert found.digest == ("SHA1", "ab")


def test_fetch_content():
    text = """
    FetchContent_Declare(One GIT_REPOSITORY https://h/1 GIT_TAG a SOURCE_SUBDIR cmake)
    FetchContent_Declare(one GIT_REPOSITORY https://h/late GIT_TAG z)
    FetchContent_Declare(never GIT_REPOSITORY https://h/never GIT_TAG a)
    FetchContent_Declare(two URL https://h/two.tgz URL_MD5 AB)
    FetchContent_MakeAvailable(One two)
    FetchContent_MakeAvailable(one)
    """
    files = {"/build/_deps/one-src/cmake/CMakeLists.txt": "project(one)\n" + EXTERNAL}
    found = {external.name: external for external in find(text, files)}
    assert list(found) == ["One", "x", "two"]
    assert found["One"].repository == "https://h/1"
    assert found["two"].seed == "_deps/two-subbuild/two-populate-prefix/src/two.tgz"
    assert found["x"].origin == "/build/_deps/one-src/cmake/CMakeLists.txt:2"
    assert found["x"].binary_dir == "/build/_deps/one-build/x-prefix/src/x-build"


def test_old_way_of_fetch_content():
    text = """
    FetchContent_Declare(lib GIT_REPOSITORY https://h/1 GIT_TAG a)
    FetchContent_GetProperties(lib)
    if(NOT lib_POPULATED)
      FetchContent_Populate(lib)
      add_subdirectory(${lib_SOURCE_DIR} ${lib_BINARY_DIR})
    endif()
    """
    files = {"/build/_deps/lib-src/CMakeLists.txt": EXTERNAL}
    assert [(e.name, e.certain) for e in find(text, files)] == [("lib", True), ("x", True)]
    assert find(text, files, FETCHCONTENT_SOURCE_DIR_LIB="/mine") == []


def test_files_and_folders_that_are_taken_in():
    text = """
    list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_SOURCE_DIR}/cmake)
    set(CMAKE_MODULE_PATH ${CMAKE_CURRENT_SOURCE_DIR}/cmake)
    include(Deps)
    include(cmake/more.cmake)
    add_subdirectory(sub EXCLUDE_FROM_ALL)
    """
    files = {
        "/source/cmake/Deps.cmake": EXTERNAL.replace("(x", "(deps"),
        "/source/cmake/more.cmake": EXTERNAL.replace("(x", "(more"),
        "/source/sub/CMakeLists.txt": EXTERNAL.replace("(x", "(sub"),
    }
    found = {external.name: external for external in find(text, files)}
    assert list(found) == ["deps", "more", "sub"]
    assert found["sub"].binary_dir == "/build/sub/sub-prefix/src/sub-build"


@pytest.mark.parametrize(
    ("options", "expected"),
    [("", None), ('GIT_SUBMODULES ""', ()), ("GIT_SUBMODULES a b", ("a", "b")),
     ("GIT_SUBMODULES ${U}", None)],
)  # fmt: skip
def test_submodules(options, expected):
    text = f"ExternalProject_Add(x GIT_REPOSITORY https://h/x {options} GIT_SHALLOW ON)"
    assert one(text).submodules == expected
