// A command line over an app's own Rust core:
//
//     lens MODEL
import Foundation

// What Rust returned as an error is thrown as it is. It is made once and only read.
extension Failure: Error, @unchecked Sendable {}

func percent(_ guess: GuessRef) -> String {
    "'\(guess.text().toString())' \(String(format: "%.0f", 100 * guess.probability()))%"
}

func row(_ guesses: RustVec<Guess>) -> String {
    guesses.map(percent).joined(separator: " ")
}

func run(_ path: String) throws {
    let prompt = "The capital of France is"
    let lens = try Lens.open(path)
    print("layers: \(lens.layerCount())")

    // What it would say after a layer.
    let layers = try lens.byLayer(prompt)
    for (layer, guess) in layers.enumerated() where layer % 5 == 4 {
        print("after layer \(layer): \(percent(guess))")
    }

    // What it says, and what it says with its idea of the country pushed from France towards Italy.
    let direction = try lens.direction(prompt, "The capital of Italy is", 15, -2)
    for strength in [0.0, 0.5, 1.0] {
        let both = try lens.compare(prompt, direction, strength, 2)
        let change = String(format: "%.1f", both.change())
        print("\(direction.site().toString()), \(strength) of the way (\(change)): \(row(both.untouched())) -> \(row(both.steered()))")
    }

    // An error of Rust's is one of Swift's.
    for mistake in [
        { _ = try Lens.open("/nowhere/at/all") },
        { _ = try lens.direction(prompt, prompt, 99, -2) },
        { _ = try lens.byLayer("") },
    ] {
        do {
            try mistake()
            print("nothing was thrown")
        } catch let failure as Failure {
            print("\(failure.kind().toString()): \(failure.message().toString())")
        }
    }
}

guard CommandLine.arguments.count == 2 else {
    print("usage: lens MODEL")
    exit(2)
}
do {
    try run(CommandLine.arguments[1])
} catch let failure as Failure {
    print("\(failure.kind().toString()): \(failure.message().toString())")
    exit(1)
}
