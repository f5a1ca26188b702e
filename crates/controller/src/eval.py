# Evaluates the Python program on standard input. Standard output carries the answer, one JSON object; what the
# program prints goes to standard error.
import ast, json, os, sys, traceback

answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
os.dup2(2, 1)
answer = {"result": None, "error": None, "exit_code": 0}
names = {"__name__": "__main__", "__builtins__": __builtins__}
try:
    tree = ast.parse(sys.stdin.buffer.read(), "<eval>")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<eval>", "exec"), names)
    if last is not None:
        answer["result"] = repr(eval(compile(ast.Expression(last.value), "<eval>", "eval"), names))
except SystemExit as end:
    if end.code is None or isinstance(end.code, int):
        answer["exit_code"] = end.code or 0
    else:
        answer["error"], answer["exit_code"] = str(end.code), 1
except BaseException:
    answer["error"], answer["exit_code"] = traceback.format_exc(), 1
sys.stdout.flush()
json.dump(answer, answers)
answers.close()
