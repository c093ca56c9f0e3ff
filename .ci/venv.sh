# Sourced by tests/run and examples/demo, at the root of the checkout.
#
#   find_python [WISH]              prints a Python >= 3.11; WISH is a version (3.13) or a command
#   make_venv DIRECTORY PYTHON WHAT...   a virtual environment that has WHAT installed
#
# What is installed is stamped, so a second call costs nothing. An environment that does not run
# (the Python it was made from is gone) is made again.

find_python() {
    local wish=${1:-} candidate
    local -a candidates=(python3 python3.14 python3.13 python3.12 python3.11)
    local pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions
    candidates+=("$pyenv"/3.*/bin/python3)
    if [ -n "$wish" ]; then
        candidates=("$wish" "python$wish" "$pyenv/$wish"*/bin/python3)
    fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    echo "no Python ${wish:-3.11 or newer} found; install one, or name it in RESQUED_PYTHON" >&2
    return 1
}

make_venv() {
    local directory=$1 python=$2 stamp file
    shift 2
    stamp=$("$python" -V; pwd; cksum <pyproject.toml; printf '%s\n' "$@")
    file=$directory/.installed-$(printf '%s\n' "$@" | cksum | cut -d' ' -f1)
    if "$directory/bin/python" -c '' 2>/dev/null; then
        [ "$(cat "$file" 2>/dev/null)" != "$stamp" ] || return 0
    else
        if ! "$python" -m venv --clear "$directory" >&2; then
            echo "cannot make $directory; on Debian and Ubuntu: apt install python3-venv" >&2
            return 1
        fi
        echo '*' >"$directory/.gitignore"
    fi
    echo "installing into $directory (once; later runs take it as it is)" >&2
    "$directory/bin/python" -m pip install -qq --disable-pip-version-check "$@" >&2 || return 1
    printf '%s\n' "$stamp" >"$file"
}
