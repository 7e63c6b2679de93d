import Foundation
import XCTest

@testable import MLXTerp

/// The repository.
let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

/// A tiny model without a tokenizer: two layers of width 24, 4 heads, 64 token ids.
func tiny() throws -> InterpretableModel {
    try InterpretableModel(root.appendingPathComponent("tests/fixtures/tiny/llama").path)
}

/// SmolLM2-135M-Instruct, fetched by the set-up.
let smollm2Path = root.appendingPathComponent("target/models/SmolLM2-135M-Instruct.Q4_1.gguf").path

/// Loaded once: it takes a while.
let smollm2 = Result { try InterpretableModel(smollm2Path) }

let tokens = [3, 7, 11, 20]

/// Fails unless a call throws an error of this package, of this kind; returns it.
@discardableResult
func assertThrows<R>(
    _ kind: MLXTerpError.Kind, _ call: @autoclosure () throws -> R, file: StaticString = #filePath, line: UInt = #line
) -> MLXTerpError? {
    do {
        _ = try call()
        XCTFail("nothing was thrown", file: file, line: line)
    } catch let error as MLXTerpError {
        XCTAssertEqual(error.kind, kind, error.message, file: file, line: line)
        return error
    } catch {
        XCTFail("\(error)", file: file, line: line)
    }
    return nil
}

/// A test at whose end no handle may be left.
class HandleTests: XCTestCase {
    private var before = 0

    override func setUp() {
        _ = smollm2
        before = Library.liveHandles
    }

    override func tearDown() {
        // A queue lets go of a generation a moment after it gave the last token.
        let end = Date(timeIntervalSinceNow: 5)
        while Library.liveHandles != before, Date() < end { usleep(1000) }
        XCTAssertEqual(Library.liveHandles, before, "handles were left behind")
    }
}
