// The tour: load, list, read, steer, patch, fork, an error, a hook that fails. The same program in C (examples/c), C++
// (examples/cpp) and Python (examples/python) prints the same lines.
//
//     swift run Tour MODEL
import Foundation
import MLXTerp

struct Refusal: Error {
    let site: String
}

func printNext(_ what: String, _ model: InterpretableModel, _ trace: Trace) throws {
    let probabilities = try trace.output[0, -1].softmax()
    let top = try probabilities.topK(2)
    let numbers = try probabilities.take(top, axis: -1).array(of: Float.self)
    let shown = try zip(top.array(of: Int.self), numbers).map { id, number in
        " '\(try model.tokenText(id))' \(String(format: "%.0f", 100 * number))%"
    }
    print(what + ":" + shown.joined())
}

func tour(_ path: String) throws {
    // Load.
    let model = try InterpretableModel(path)
    print("model: \(model.layerCount) layers of width \(model.hiddenSize), \(model.headCount) heads")

    // List sites.
    print("layers.*.mlp: \(try model.sites("layers.*.mlp").count) sites")

    // Read three. Nothing is computed yet.
    let france = try model.trace("The capital of France is")
    for site in ["layers.3.attn.output", "layers.3.attn.pattern", "output"] {
        let value = try france.read(site)
        print("\(site): \(value.shape), computed: \(value.isEvaluated ? "yes" : "no")")
    }
    let there = try france.layers[15].output[0, -2]
    let first = try there.array(of: Float.self).prefix(3).map { String(format: "%.3f", $0) }
    print("layers.15.output at France:", first.joined(separator: " "))
    try printNext("France", model, france)

    // Steer: what sets Italy apart from France, added at the country's token.
    let here = try model.trace("The capital of Italy is").layers[15].output[0, -2]
    let direction = try here - there
    let steered = try model.trace("The capital of France is") { t in
        t.layers[15].output[positions: -2] += direction
    }
    try printNext("France, steered to Italy", model, steered)

    // Patch: a value of one run in another.
    let patched = try model.trace("The capital of Italy is") { t in
        t.layers[15].output[positions: -2] = there
    }
    try printNext("Italy, patched with France", model, patched)

    // Fork: a second continuation of the first run, in which anything may be written.
    let fork = try france.fork()
    fork.layers[15].mlp.output = Intervention.zeroOut
    try printNext("France, without an MLP", model, fork)
    try printNext("France, still", model, france)

    // An error has the kind, the site, and a message with the way out.
    do {
        _ = try france.layers[99].mlp
    } catch let error as MLXTerpError {
        print("error: \(error.message)")
    }

    // What a hook throws comes back as itself.
    let refuse = Intervention.custom("refuse") { _, event in throw Refusal(site: event.site) }
    do {
        _ = try model.trace("The capital of France is") { t in
            t.layers[3].attn.output = refuse
            _ = try t.output
        }
    } catch let refusal as Refusal {
        print("hook: refused at \(refusal.site)")
    }
}

guard CommandLine.arguments.count == 2 else {
    print("usage: Tour MODEL")
    exit(2)
}
let before = Library.liveHandles
try tour(CommandLine.arguments[1])
print("handles left: \(Library.liveHandles - before)")
